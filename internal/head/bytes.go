package head

// tokenBytes are those of RFC 9110, section 5.6.2; valueBytes may stand in a field's value (section 5.5), with bytes above ASCII.
var (
	tokenBytes = byteSet("!#$%&'*+-.^_`|~")
	plainBytes = byteSet("-")
	valueBytes = func() (set [256]bool) {
		for c := range set {
			set[c] = c >= ' ' && c != 0x7F || c == '\t'
		}
		return set
	}()
)

func byteSet(marks string) (set [256]bool) {
	for c := '0'; c <= '9'; c++ {
		set[c] = true
	}
	for c := 'a'; c <= 'z'; c++ {
		set[c], set[c-0x20] = true, true
	}
	for _, c := range marks {
		set[c] = true
	}
	return set
}

// IsTokenByte reports whether a byte can stand in a token.
func IsTokenByte(c byte) bool { return tokenBytes[c] }

// IsToken reports whether s is a token (RFC 9110, section 5.6.2).
func IsToken(s string) bool {
	for i := range len(s) {
		if !tokenBytes[s[i]] {
			return false
		}
	}
	return s != ""
}

// BadValueByte returns the first byte of s that can stand in no field's value.
func BadValueByte(s string) (c byte, bad bool) {
	for i := range len(s) {
		if !valueBytes[s[i]] {
			return s[i], true
		}
	}
	return 0, false
}

// IsPlain reports whether a name is of letters, digits and hyphens only. CGI, and PHP behind it, turn X_Real_IP, X.Real.IP and X-Real-IP into one
// variable.
func IsPlain(name string) bool {
	for i := range len(name) {
		if !plainBytes[name[i]] {
			return false
		}
	}
	return true
}
