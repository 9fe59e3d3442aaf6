//go:build !linux || portable

package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"sync"
)

// maxResponseHead bounds a backend's response head and its trailers.
const maxResponseHead = 128 << 10

// maxInformational bounds the 1xx responses before the one that counts.
const maxInformational = 16

var errResponseHead = fmt.Errorf("the response head is above %d bytes", maxResponseHead)

// backendResponse is a backend's response: its head parsed, its body still to come.
type backendResponse struct {
	*http.Response // its Body is not used
	conn           *backendConn
	body           io.Reader // ends with io.EOF where the framing says so, and io.ErrUnexpectedEOF before
	// delimited says that the body's end leaves the connection in step, unlike a body that ends with the connection.
	delimited bool
}

// readResponse reads one response head, a 1xx among them. A head that comes apart, or that could be read in two ways,
// is an error (RFC 9112, sections 2.2 and 6.3). io.EOF means that not one byte came.
func (c *backendConn) readResponse(method string) (*backendResponse, error) {
	if err := c.awaitStatusLine(); err != nil {
		return nil, err
	}
	head, err := readHead(c.br, maxResponseHead)
	if err != nil {
		return nil, err
	}
	parsed, err := parseResponseHead(head, method)
	if err != nil {
		return nil, err
	}
	c.heedKeepAlive(parsed.Header["Keep-Alive"])
	resp := &backendResponse{Response: parsed, conn: c, delimited: true}
	switch {
	case parsed.StatusCode < 200, method == http.MethodHead,
		parsed.StatusCode == http.StatusNoContent, parsed.StatusCode == http.StatusNotModified:
		resp.body = http.NoBody
	case len(parsed.TransferEncoding) > 0:
		resp.body = &chunkedBody{resp: resp, chunks: httputil.NewChunkedReader(c.br)}
	case parsed.ContentLength >= 0:
		resp.body = &exactBody{br: c.br, left: parsed.ContentLength}
	default:
		resp.body, resp.delimited = c.br, false
	}
	return resp, nil
}

// headReaders are for the parsing of heads.
var headReaders = sync.Pool{New: func() any { return bufio.NewReader(nil) }}

// parseResponseHead checks and parses a whole head.
func parseResponseHead(head []byte, method string) (*http.Response, error) {
	connection, err := checkResponseHead(head)
	if err != nil {
		return nil, err
	}
	br := headReaders.Get().(*bufio.Reader)
	defer headReaders.Put(br)
	br.Reset(bytes.NewReader(head))
	parsed, err := http.ReadResponse(br, &http.Request{Method: method})
	switch {
	case err != nil:
		// The error itself would quote lines with cookies and tokens.
		return nil, errors.New("the response head is malformed")
	case parsed.StatusCode < 100:
		return nil, fmt.Errorf("the response has status %d", parsed.StatusCode)
	}
	if len(connection) > 0 {
		parsed.Header["Connection"] = connection // net/http takes all of it away where it says close
	}
	return parsed, nil
}

// readHead reads up to and including the first empty line.
func readHead(br *bufio.Reader, limit int) ([]byte, error) {
	var head []byte
	lineStart := true
	for {
		piece, err := br.ReadSlice('\n')
		head = append(head, piece...)
		switch {
		case len(head) > limit:
			return nil, errResponseHead
		case errors.Is(err, bufio.ErrBufferFull):
			lineStart = false
			continue
		case errors.Is(err, io.EOF) && len(head) > 0:
			return nil, fmt.Errorf("after %d bytes of the response head: %w", len(head), io.ErrUnexpectedEOF)
		case err != nil:
			return nil, err
		}
		if lineStart && len(bytes.TrimRight(piece, "\r\n")) == 0 {
			return head, nil
		}
		lineStart = true
	}
}

// exactBody is a body of known length.
type exactBody struct {
	br   *bufio.Reader
	left int64
}

func (b *exactBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.br.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// chunkedBody is a body in chunks; at its end it reads the trailers into the response.
type chunkedBody struct {
	resp   *backendResponse
	chunks io.Reader
	done   bool
}

func (b *chunkedBody) Read(p []byte) (int, error) {
	if b.done {
		return 0, io.EOF
	}
	n, err := b.chunks.Read(p)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	b.done = true
	section, err := readHead(b.resp.conn.br, maxResponseHead)
	if err != nil {
		return n, io.ErrUnexpectedEOF
	}
	trailer, err := textproto.NewReader(bufio.NewReader(bytes.NewReader(section))).ReadMIMEHeader()
	if err != nil {
		return n, errors.New("the response's trailers are malformed")
	}
	b.resp.Trailer = http.Header(trailer)
	return n, io.EOF
}
