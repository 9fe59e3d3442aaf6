package rewrite

import (
	"strings"

	"wstunnel/internal/config"
	"wstunnel/internal/head"
	"wstunnel/internal/tags"
)

// noParams are fields of a request that become no HTTP_ parameter of their own: those that end here, and those that others say.
var noParams = endsHere | head.SetOf(head.ContentType)

// AppendParams adds the fields of the request, as the location's rules change them, with HTTP_ before their names (RFC 3875, section 4.1.18). Several fields of a
// name become one.
func AppendParams(dst head.Fields, in *Inbound, l *config.Location) head.Fields {
	r := head.Request{Host: in.Request.Host, Fields: FieldsForScript(in)}
	ApplyRequestRules(&r, in, l.Headers.Request)
	if r.Host != "" {
		dst = append(dst, head.Field{Name: "HTTP_HOST", Value: r.Host})
	}
	joined := joining{places: make(map[string]int, len(r.Fields))}
	for i := range r.Fields {
		if f := &r.Fields[i]; !noParams.Has(f.ID) {
			dst = joined.add(dst, f)
		}
	}
	return joined.end(dst)
}

// FieldsForScript returns the fields of the request that a script is told of. What an untrusted peer says of others is left out.
func FieldsForScript(in *Inbound) head.Fields {
	fields := in.Request.Fields
	listed := ListedIn(fields)
	kept := make(head.Fields, 0, len(fields)+len(in.Granted)+1)
	for i := range fields {
		f := &fields[i]
		switch {
		case endsHere.Has(f.ID) || f.ID == head.XClientSubject || f.ID == head.Other && (!head.IsPlain(f.Name) || tags.IsPrivate(f)):
		case !in.Trusted && (isClaim(f) || f.ID == head.XRealIP):
		case listed.has(f) && !isOwn(f):
		case in.Grantable(f.Name):
		default:
			kept = append(kept, *f)
		}
	}
	if in.Subject != "" {
		kept.Add(head.XClientSubject, in.Subject)
	}
	return append(kept, in.Granted...)
}

// joining makes one parameter of several fields of a name.
type joining struct {
	places map[string]int // of the parameters, by their names
	values map[int][]string
}

func (j *joining) add(dst head.Fields, f *head.Field) head.Fields {
	name := HeaderParam(f)
	place, several := j.places[name]
	if !several {
		j.places[name] = len(dst)
		return append(dst, head.Field{Name: name, Value: f.Value, ID: f.ID})
	}
	if j.values == nil {
		j.values = map[int][]string{}
	}
	if j.values[place] == nil {
		j.values[place] = []string{dst[place].Value}
	}
	j.values[place] = append(j.values[place], f.Value)
	return dst
}

func (j *joining) end(dst head.Fields) head.Fields {
	for place, values := range j.values {
		between := ", "
		if dst[place].ID == head.Cookie {
			between = "; "
		}
		dst[place].Value = strings.Join(values, between)
	}
	return dst
}

// HeaderParam is the name of the parameter that a field becomes.
func HeaderParam(f *head.Field) string {
	if f.ID != head.Other {
		return headerParams[f.ID]
	}
	return headerParamOf(f.Name)
}

// headerParams are those of names that are known.
var headerParams = func() (names [head.Known]string) {
	for id := range head.Known {
		names[id] = headerParamOf(id.String())
	}
	return names
}()

func headerParamOf(name string) string {
	param := append(make([]byte, 0, len("HTTP_")+len(name)), "HTTP_"...)
	for _, c := range []byte(name) {
		switch {
		case c == '-':
			c = '_'
		case 'a' <= c && c <= 'z':
			c -= 0x20
		}
		param = append(param, c)
	}
	return string(param)
}
