package ws

import (
	"errors"
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

func TestCheckRequest(t *testing.T) {
	good := []string{"Sec-WebSocket-Key", sampleKey, "Sec-WebSocket-Version", "13"}
	tests := []struct {
		name   string
		r      *http.Request
		status int // 0: good
	}{
		{"good", request(1, good...), 0},
		{"version 8", request(1, "Sec-WebSocket-Key", sampleKey, "Sec-WebSocket-Version", "8"), 426},
		{"no version", request(1, "Sec-WebSocket-Key", sampleKey), 426},
		{"two versions", request(1, append(good, "Sec-WebSocket-Version", "13")...), 426},
		{"no key", request(1, "Sec-WebSocket-Version", "13"), 400},
		{"two keys", request(1, append(good, "Sec-WebSocket-Key", sampleKey)...), 400},
		{"key of 15 bytes", request(1, "Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAA", "Sec-WebSocket-Version", "13"), 400},
		{"key not base64", request(1, "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=!", "Sec-WebSocket-Version", "13"), 400},
		{"POST", func() *http.Request { r := request(1, good...); r.Method = "POST"; return r }(), 400},
	}
	for _, tt := range tests {
		err := CheckRequest(tt.r)
		status := 0
		if bad, ok := errors.AsType[*HandshakeError](err); ok {
			status = bad.Status
		}
		if status != tt.status {
			t.Errorf("%s: %v (%d), want %d", tt.name, err, status, tt.status)
		}
	}
}

func TestCheckResponse(t *testing.T) {
	const accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
	tests := []struct {
		name   string
		header []string
		good   bool
	}{
		{"good", []string{"Upgrade", "websocket", "Connection", "Upgrade", "Sec-WebSocket-Accept", accept}, true},
		{"any case", []string{"Upgrade", "WebSocket", "Connection", "upgrade", "Sec-WebSocket-Accept", accept}, true},
		{"wrong accept", []string{"Upgrade", "websocket", "Connection", "Upgrade", "Sec-WebSocket-Accept", "x" + accept[1:]}, false},
		{"no accept", []string{"Upgrade", "websocket", "Connection", "Upgrade"}, false},
		{"no upgrade", []string{"Connection", "Upgrade", "Sec-WebSocket-Accept", accept}, false},
		{"no connection", []string{"Upgrade", "websocket", "Sec-WebSocket-Accept", accept}, false},
	}
	for _, tt := range tests {
		err := CheckResponse(&http.Response{Header: request(1, tt.header...).Header}, sampleKey)
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
