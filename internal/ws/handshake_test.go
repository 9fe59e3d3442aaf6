package ws

import (
	"net/http"
	"testing"
)

const sampleKey = "dGhlIHNhbXBsZSBub25jZQ==" // RFC 6455, section 1.3

func TestAcceptOfTheRFC(t *testing.T) {
	if got := Accept(sampleKey); got != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Errorf("got %s", got)
	}
}

func request(minor int, header ...string) *http.Request {
	r := &http.Request{Method: "GET", ProtoMajor: 1, ProtoMinor: minor, Header: http.Header{}}
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return r
}

func TestWantsUpgrade(t *testing.T) {
	tests := []struct {
		name string
		r    *http.Request
		want bool
	}{
		{"plain", request(1, "Connection", "Upgrade", "Upgrade", "websocket"), true},
		{"Firefox", request(1, "Connection", "keep-alive, Upgrade", "Upgrade", "websocket"), true},
		{"any case", request(1, "Connection", "uPGRADE", "Upgrade", "WebSocket"), true},
		{"several lines", request(1, "Connection", "keep-alive", "Connection", "upgrade", "Upgrade", "websocket"), true},
		{"among others", request(1, "Connection", "upgrade", "Upgrade", "h2c, websocket"), true},
		{"HTTP/1.0", request(0, "Connection", "Upgrade", "Upgrade", "websocket"), false},
		{"not listed in Connection", request(1, "Upgrade", "websocket"), false},
		{"part of a token", request(1, "Connection", "Upgrades", "Upgrade", "websocket"), false},
		{"h2c", request(1, "Connection", "Upgrade", "Upgrade", "h2c"), false},
	}
	for _, tt := range tests {
		if got := WantsUpgrade(tt.r); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestSwitching(t *testing.T) {
	const accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
	key := []string{sampleKey}
	good := []string{"Upgrade", "websocket", "Connection", "Upgrade", "Sec-WebSocket-Accept", accept}
	tests := []struct {
		name   string
		keys   []string
		header []string
		good   bool
	}{
		{"good", key, good, true},
		{"any case", key, []string{"Upgrade", "WebSocket", "Connection", "upgrade", "Sec-WebSocket-Accept", accept}, true},
		{"wrong accept", key, []string{"Upgrade", "websocket", "Connection", "Upgrade", "Sec-WebSocket-Accept", "x" + accept[1:]}, false},
		{"no accept", key, []string{"Upgrade", "websocket", "Connection", "Upgrade"}, false},
		{"no upgrade", key, []string{"Connection", "Upgrade", "Sec-WebSocket-Accept", accept}, false},
		{"no connection", key, []string{"Upgrade", "websocket", "Sec-WebSocket-Accept", accept}, false},
		{"no key", nil, good, false},
		{"two keys", []string{sampleKey, sampleKey}, good, false},
	}
	for _, tt := range tests {
		h := request(1, tt.header...).Header
		err := Switching{h["Upgrade"], h["Connection"], h["Sec-Websocket-Accept"]}.Check(tt.keys)
		if (err == nil) != tt.good {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestHeaderNamesAreSpeltAsInTheRFC(t *testing.T) {
	for canonical, want := range map[string]string{
		"Sec-Websocket-Key":    "Sec-WebSocket-Key",
		"Sec-Websocket-Accept": "Sec-WebSocket-Accept",
		"X-Real-Ip":            "X-Real-Ip",
	} {
		if got := HeaderName(canonical); got != want {
			t.Errorf("%s: %s, want %s", canonical, got, want)
		}
	}
}
