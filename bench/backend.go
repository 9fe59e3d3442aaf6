//go:build linux

package main

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
)

const (
	roleBackend = "backend"
	smallBody   = 200 // bytes

	websocketGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
)

// serveBackend answers WebSocket and HTTP on a free port of each of the hosts, prints the addresses as a line
// of JSON, and ends with its standard input. Each proxy has an address of its own, and so ports of its own.
func serveBackend(hosts []string) error {
	bodies := map[string][]byte{
		"/api/small": response(smallBody),
		"/api/large": response(message),
	}
	var addresses []string
	for _, host := range hosts {
		listener, err := net.Listen("tcp4", net.JoinHostPort(host, "0"))
		if err != nil {
			return err
		}
		addresses = append(addresses, listener.Addr().String())
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					fmt.Fprintln(os.Stderr, "backend:", err)
					return
				}
				go serveConn(conn, bodies)
			}
		}()
	}
	if err := json.NewEncoder(os.Stdout).Encode(addresses); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// response is a whole HTTP response with a body of that size.
func response(size int) []byte {
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n", size)
	return append([]byte(head), payload(size)...)
}

// serveConn answers requests until the connection ends, or becomes a tunnel.
func serveConn(conn net.Conn, bodies map[string][]byte) {
	defer conn.Close()
	br := bufio.NewReader(conn)
	for {
		request, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		if key := request.Header.Get("Sec-WebSocket-Key"); key != "" {
			fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
				"Sec-WebSocket-Accept: %s\r\n\r\n", acceptKey(key))
			// The peer going away is the usual end.
			_ = echo(conn, br)
			return
		}
		body, ok := bodies[request.URL.Path]
		if !ok {
			body = []byte("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
		}
		if _, err := conn.Write(body); err != nil {
			return
		}
	}
}

func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + websocketGUID))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// echo sends each message back once it is whole.
func echo(w io.Writer, br *bufio.Reader) error {
	var frame []byte // a server's head and the payload
	for {
		size, err := readClientHead(br)
		if err != nil {
			return err
		}
		head := serverHead(size)
		if cap(frame) < len(head)+size {
			frame = make([]byte, len(head)+size)
		}
		frame = frame[:len(head)+size]
		copy(frame, head)
		if _, err := io.ReadFull(br, frame[len(head):]); err != nil {
			return err
		}
		if _, err := w.Write(frame); err != nil {
			return err
		}
	}
}

// readClientHead reads the head of a binary frame and returns the length of its payload. The load masks with
// zeros, which are a mask like any other and leave nothing to unmask.
func readClientHead(br *bufio.Reader) (size int, err error) {
	var head [14]byte
	if _, err := io.ReadFull(br, head[:2]); err != nil {
		return 0, err
	}
	extended := 0
	switch head[1] {
	case 0x80 | 126:
		extended = 2
	case 0x80 | 127:
		extended = 8
	}
	if _, err := io.ReadFull(br, head[2:2+extended+4]); err != nil {
		return 0, err
	}
	switch extended {
	case 0:
		size = int(head[1] & 0x7f)
	case 2:
		size = int(binary.BigEndian.Uint16(head[2:]))
	case 8:
		size = int(binary.BigEndian.Uint64(head[2:]))
	}
	if head[0] != 0x82 || size > message {
		return 0, errors.New("not a frame of the load")
	}
	return size, nil
}
