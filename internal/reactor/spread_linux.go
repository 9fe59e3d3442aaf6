package reactor

import "golang.org/x/sys/unix"

// canSpread reports whether connections to an address may come from different ones: all of 127.0.0.0/8 is this machine's.
func canSpread(address unix.Sockaddr) bool {
	to, ok := address.(*unix.SockaddrInet4)
	return ok && to.Addr[0] == 127
}

// bindSource has a connection come from an address. Its port is found when it connects, so that it need not be free towards other ports of the server's. A failure shows
// there: it is one address's as usual then.
func bindSource(fd int, source [4]byte) {
	unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	unix.Bind(fd, &unix.SockaddrInet4{Addr: source})
}
