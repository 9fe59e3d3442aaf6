package proxy

import (
	"slices"

	"wstunnel/internal/config"
	"wstunnel/internal/head"
	"wstunnel/internal/rewrite"
)

// requestTrailers returns the trailers of the client's that go on: none that a rule, or the server of auth_request, says something else about.
func (x *exchange) requestTrailers(trailers head.Fields) head.Fields {
	return slices.DeleteFunc(rewrite.Trailers(trailers, x.in.Request.Fields), func(f head.Field) bool {
		for i := range x.location.Headers.Request {
			if rewrite.Removes(&x.location.Headers.Request[i], f.Name) {
				return true
			}
		}
		return x.in.Grantable(f.Name)
	})
}

// applyAnswerRules changes the head that the client is answered.
func (x *exchange) applyAnswerRules(status int, fields head.Fields) head.Fields {
	rules := x.rules().Headers.Response
	for i := range rules {
		if rules[i].Always || rewrite.Everyday(status) {
			fields = rewrite.ApplyRules(fields, &rules[i], x.in.Value)
		}
	}
	return fields
}

var noRules config.Rules

// rules returns what the configuration says of the exchange beside where it goes.
func (x *exchange) rules() *config.Rules {
	switch {
	case x.location != nil:
		return &x.location.Rules
	case x.site != nil:
		return &x.site.Rules
	}
	return &noRules
}
