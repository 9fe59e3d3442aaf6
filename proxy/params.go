package proxy

import (
	"strconv"
	"strings"

	"wstunnel/internal/head"
	"wstunnel/internal/host"
	"wstunnel/internal/rewrite"
	"wstunnel/internal/route"
)

// serverSoftware names nginx, since applications know by that how they are run: WordPress offers permalinks without index.php to servers that it knows.
const serverSoftware = "wstunnel (as nginx)"

// appendParams makes the parameters of a script's request, as nginx's fastcgi.conf has them, behind those in dst. The location's own come last, since the last of a
// name counts.
func appendParams(dst head.Fields, x *exchange, script meaning, length int64) head.Fields {
	in, l, r := &x.in, x.location, x.in.Request
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
	add("QUERY_STRING", strings.TrimPrefix(in.Query(), "?"))
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
	if x.in.User != "" {
		add("REMOTE_USER", x.in.User)
	}
	dst = appendEnds(dst, x)
	dst = rewrite.AppendParams(dst, in, l.Location)
	for _, p := range l.PHP.Params {
		dst = append(dst, head.Field{Name: p.Name, Value: p.Value.Expand(in.Value)})
	}
	return dst
}

// appendEnds adds who asked whom, and how.
func appendEnds(dst head.Fields, x *exchange) head.Fields {
	in := &x.in
	add := func(name, value string) { dst = append(dst, head.Field{Name: name, Value: value}) }
	scheme := in.PublicScheme()
	add("REQUEST_SCHEME", scheme)
	if scheme == "https" {
		add("HTTPS", "on")
	}
	add("REMOTE_ADDR", in.Client.String())
	if in.Client == in.Peer { // else nobody knows it
		add("REMOTE_PORT", strconv.Itoa(int(x.from.remote.Port())))
	}
	own := x.from.public
	if !own.IsValid() {
		own = x.client.Conn().LocalAddr()
	}
	address := own.Addr().String()
	add("SERVER_ADDR", address)
	if name, _ := host.Split(in.Request.Host); name != "" {
		add("SERVER_NAME", strings.ToLower(name))
	} else {
		add("SERVER_NAME", address)
	}
	add("SERVER_PORT", in.PublicPort())
	return dst
}
