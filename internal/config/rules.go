package config

import "slices"

// Rules are what may be said of the whole file, of a site and of a location, beside where requests go. The nearest counts; header rules add up.
type Rules struct {
	Headers    Headers
	Access     Access
	Compress   Compress
	ErrorPages map[int]ErrorPage // by status
	// InterceptErrors says that ErrorPages stand for the backend's own errors too. Default false.
	InterceptErrors bool
	Expires         Expires
}

// ruleKeys are their keys.
var ruleKeys = []string{
	"headers", "allow", "deny", "satisfy", "basic_auth", "auth_request", "allowed_origins", "max_body", "compress", "error_pages", "intercept_errors",
	"expires",
}

// withRules returns the keys of a kind of mapping that may have rules too.
func withRules(keys ...string) []string { return slices.Concat(keys, ruleKeys) }

// rules reads them, over those above.
func (d *decoder) rules(o object, r *Rules) {
	if n := o.get("headers"); n != nil {
		d.headers(n, &r.Headers)
	}
	d.access(o, &r.Access)
	if n := o.get("compress"); n != nil {
		d.compress(n, &r.Compress)
	}
	if n := o.get("error_pages"); n != nil {
		d.errorPages(n, &r.ErrorPages)
	}
	if n := o.get("intercept_errors"); n != nil {
		d.boolean(n, &r.InterceptErrors)
	}
	if n := o.get("expires"); n != nil {
		d.expires(n, &r.Expires)
	}
}
