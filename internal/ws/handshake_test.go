package ws

import (
	"testing"
)

const sampleKey = "dGhlIHNhbXBsZSBub25jZQ==" // RFC 6455, section 1.3

func TestAcceptOfTheRFC(t *testing.T) {
	if got := Accept(sampleKey); got != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Errorf("got %s", got)
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
		h := map[string][]string{}
		for i := 0; i < len(tt.header); i += 2 {
			h[tt.header[i]] = append(h[tt.header[i]], tt.header[i+1])
		}
		err := Switching{h["Upgrade"], h["Connection"], h["Sec-WebSocket-Accept"]}.Check(tt.keys)
		if (err == nil) != tt.good {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}
