package proxy_test

import (
	"strings"
	"testing"
)

// TestBackendThatRedirectsHTTPSToItselfIsToldOfOnce, and no other redirect is.
func TestBackendThatRedirectsHTTPSToItselfIsToldOfOnce(t *testing.T) {
	const redirect = "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n"
	b := startHeads(t, func(head string) string {
		host := field(head, "Host")[0]
		_, rest, _ := strings.Cut(head, " ")
		target, _, _ := strings.Cut(rest, " ")
		switch {
		case strings.HasPrefix(target, "/login"):
			return redirect + "Location: https://" + host + "/login/\r\n\r\n"
		case strings.HasPrefix(target, "/cookie"):
			return redirect + "Set-Cookie: a=b\r\nLocation: https://" + host + target + "\r\n\r\n"
		case strings.HasPrefix(target, "/elsewhere"):
			return redirect + "Location: https://other.example" + target + "\r\n\r\n"
		case strings.HasPrefix(target, "/plain"):
			return redirect + "Location: http://" + strings.ToUpper(host) + target + "\r\n\r\n"
		case strings.HasPrefix(head, "POST"):
			return "HTTP/1.1 303 See Other\r\nContent-Length: 0\r\nLocation: https://" + host + target + "\r\n\r\n"
		}
		return redirect + "Location: https://" + host + target + "\r\n\r\n"
	})
	yaml := strings.Replace(secureSite(`{path: /plain, http: "http://`+b.address+`"}`, httpTo(b.address)), "    locations:", "    redirect_https: true\n    locations:", 1)
	f := startTLS(t, yaml)
	const hint = "SetEnvIf X-Forwarded-Proto https HTTPS=on"
	c := f.overTLS(t, "example.com", nil)
	for _, quiet := range []string{"GET /login?a=b", "GET /cookie", "GET /elsewhere", "POST /form"} {
		c.send(quiet + " HTTP/1.1\r\nHost: example.com\r\nContent-Length: 0\r\n\r\n")
		c.answer("GET")
	}
	if log := f.log.String(); strings.Contains(log, hint) {
		t.Fatalf("a redirect that leads on is told of:\n%s", log)
	}
	for range 3 {
		for _, request := range []string{"GET /", "HEAD /index.php?p=1", "GET /plain/x"} {
			c.send(request + " HTTP/1.1\r\nHost: example.com\r\n\r\n")
			c.answer(request[:4])
		}
	}
	log := f.log.String()
	if n := strings.Count(log, hint); n != 2 || !strings.Contains(log, `"location":"/plain"`) {
		t.Errorf("%d hints for two locations:\n%s", n, log)
	}
}
