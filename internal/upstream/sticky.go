package upstream

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
)

// tokenBytes is how much of a MAC names a server in a cookie.
const tokenBytes = 16

// tokenOf names a server of an upstream in cookies. Who lacks the key can't tell which server that is, nor make up a name.
func tokenOf(key []byte, upstream, network, address string) string {
	mac := hmac.New(sha256.New, key)
	for _, part := range []string{upstream, network, address} {
		mac.Write([]byte(part))
		mac.Write([]byte{0})
	}
	return hex.EncodeToString(mac.Sum(nil)[:tokenBytes])
}

// stuck returns the server that a cookie names, or nil. How long it takes does not depend on how much of a name is right.
func (u *Upstream) stuck(cookie string) (found *endpoint) {
	if u.Target == nil || u.Target.Sticky == nil || cookie == "" {
		return nil
	}
	for _, e := range u.endpoints {
		if subtle.ConstantTimeCompare([]byte(e.token), []byte(cookie)) == 1 {
			found = e
		}
	}
	return found
}
