//go:build !linux || portable

package proxy_test

// portable says that the loops are without epoll, splice(2) and what else only Linux has.
const portable = true
