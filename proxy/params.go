package proxy

import (
	"strconv"
	"strings"

	"wstunnel/internal/head"
	"wstunnel/internal/host"
	"wstunnel/internal/route"
)

// serverSoftware names nginx, since applications know by that how they are run: WordPress offers permalinks without index.php to servers that it knows.
const serverSoftware = "wstunnel (as nginx)"

// noParams are fields of a request that become no HTTP_ parameter of their own: those that end here, and those that others say.
var noParams = endsHere | head.SetOf(head.ContentType)

// appendParams makes the parameters of a script's request, as nginx's fastcgi.conf has them, behind those in dst. The location's own come last, since the last of a
// name counts.
func appendParams(dst head.Fields, x *exchange, script meaning, length int64) head.Fields {
	in, l, r := &x.in, x.location, x.in.request
	add := func(name, value string) { dst = append(dst, head.Field{Name: name, Value: value}) }
	path, query := route.Split(r.Target)
	url, directory := l.url(script.name), l.Directory()
	add("SCRIPT_FILENAME", directory+"/"+script.name)
	add("SCRIPT_NAME", url)
	add("DOCUMENT_URI", url+script.info)
	add("DOCUMENT_ROOT", directory)
	if script.info != "" {
		add("PATH_INFO", script.info)
		add("PATH_TRANSLATED", directory+script.info)
	}
	add("REQUEST_URI", path+query)
	add("QUERY_STRING", strings.TrimPrefix(in.query(), "?"))
	add("REQUEST_METHOD", r.Method)
	add("CONTENT_TYPE", r.Fields.Get(head.ContentType))
	contentLength := ""
	if r.HasBody() || r.Fields.Has(head.ContentLength) {
		contentLength = strconv.FormatInt(length, 10)
	}
	add("CONTENT_LENGTH", contentLength)
	add("GATEWAY_INTERFACE", "CGI/1.1")
	add("SERVER_PROTOCOL", r.Proto())
	add("SERVER_SOFTWARE", serverSoftware)
	add("REDIRECT_STATUS", "200") // php-cgi runs nothing without it
	if x.in.user != "" {
		add("REMOTE_USER", x.in.user)
	}
	dst = appendEnds(dst, x)
	dst = appendHeaderParams(dst, in, l)
	for _, p := range l.PHP.Params {
		dst = append(dst, head.Field{Name: p.Name, Value: p.Value.Expand(in.value)})
	}
	return dst
}

// appendEnds adds who asked whom, and how.
func appendEnds(dst head.Fields, x *exchange) head.Fields {
	in := &x.in
	add := func(name, value string) { dst = append(dst, head.Field{Name: name, Value: value}) }
	scheme := in.publicScheme()
	add("REQUEST_SCHEME", scheme)
	if scheme == "https" {
		add("HTTPS", "on")
	}
	add("REMOTE_ADDR", in.client.String())
	if in.client == in.peer { // else nobody knows it
		add("REMOTE_PORT", strconv.Itoa(int(x.from.remote.Port())))
	}
	own := x.from.public
	if !own.IsValid() {
		own = x.client.Conn().LocalAddr()
	}
	address := own.Addr().String()
	add("SERVER_ADDR", address)
	if name, _ := host.Split(in.request.Host); name != "" {
		add("SERVER_NAME", strings.ToLower(name))
	} else {
		add("SERVER_NAME", address)
	}
	add("SERVER_PORT", in.publicPort())
	return dst
}

// appendHeaderParams adds the fields of the request, as the location's rules change them, with HTTP_ before their names (RFC 3875, section 4.1.18). Several fields of a
// name become one.
func appendHeaderParams(dst head.Fields, in *inbound, l *location) head.Fields {
	r := head.Request{Host: in.request.Host, Fields: fieldsForScript(in)}
	applyRequestRules(&r, in, l.Headers.Request)
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

// fieldsForScript returns the fields of the request that a script is told of. What an untrusted peer says of others is left out.
func fieldsForScript(in *inbound) head.Fields {
	fields := in.request.Fields
	listed := listedIn(fields)
	kept := make(head.Fields, 0, len(fields)+len(in.granted)+1)
	for i := range fields {
		f := &fields[i]
		switch {
		case endsHere.Has(f.ID) || f.ID == head.XClientSubject || f.ID == head.Other && (!head.IsPlain(f.Name) || isPrivate(f)):
		case !in.trusted && (isClaim(f) || f.ID == head.XRealIP):
		case listed.has(f) && !isOwn(f):
		case in.grantable(f.Name):
		default:
			kept = append(kept, *f)
		}
	}
	if in.subject != "" {
		kept.Add(head.XClientSubject, in.subject)
	}
	return append(kept, in.granted...)
}

// joining makes one parameter of several fields of a name.
type joining struct {
	places map[string]int // of the parameters, by their names
	values map[int][]string
}

func (j *joining) add(dst head.Fields, f *head.Field) head.Fields {
	name := headerParam(f)
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

// headerParam is the name of the parameter that a field becomes.
func headerParam(f *head.Field) string {
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
