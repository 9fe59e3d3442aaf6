//go:build linux

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// perCarrier is how many tunnels one connection over HTTP/2 carries: as many streams as proxies usually allow.
const perCarrier = 100

// carrier is a connection over HTTP/2 with tunnels on it (RFC 8441). One goroutine at a time uses it.
type carrier struct {
	conn    net.Conn
	framer  *http2.Framer
	streams map[uint32]*carried
	last    uint32
}

// carried is a tunnel on a stream.
type carried struct {
	net.Conn // the carrier's
	carrier  *carrier
	id       uint32
	in       []byte // that has come and was not read
	status   string // of the answer
	ended    bool
}

// connectCarrier connects, and insists on being offered extended CONNECT.
func (l *load) connectCarrier() (*carrier, error) {
	c, err := l.dial()
	if err != nil {
		return nil, err
	}
	k := &carrier{conn: c, framer: http2.NewFramer(c, bufio.NewReader(c)), streams: map[uint32]*carried{}, last: ^uint32(0)}
	k.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	err = errors.Join(c.SetDeadline(time.Now().Add(tripTimeout)), k.greet())
	if err != nil {
		c.Close()
		return nil, err
	}
	return k, nil
}

func (k *carrier) greet() error {
	if _, err := k.conn.Write([]byte(http2.ClientPreface)); err != nil {
		return err
	}
	if err := k.framer.WriteSettings(); err != nil {
		return err
	}
	frame, err := k.framer.ReadFrame()
	if err != nil {
		return err
	}
	settings, ok := frame.(*http2.SettingsFrame)
	if !ok {
		return fmt.Errorf("HTTP/2: the first frame is %v", frame)
	}
	if offered, ok := settings.Value(http2.SettingEnableConnectProtocol); !ok || offered != 1 {
		return errors.New("no extended CONNECT is offered")
	}
	return k.framer.WriteSettingsAck()
}

// tunnel opens a tunnel on a stream of its own.
func (k *carrier) tunnel(path string) (*client, error) {
	k.last += 2
	s := &carried{Conn: k.conn, carrier: k, id: k.last}
	k.streams[s.id] = s
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, f := range []hpack.HeaderField{
		{Name: ":method", Value: "CONNECT"},
		{Name: ":protocol", Value: "websocket"},
		{Name: ":scheme", Value: "https"},
		{Name: ":authority", Value: benchHost},
		{Name: ":path", Value: path},
		{Name: "sec-websocket-version", Value: "13"},
	} {
		f.Sensitive = true // so that no table is used
		if err := encoder.WriteField(f); err != nil {
			return nil, err
		}
	}
	if err := k.conn.SetDeadline(time.Now().Add(tripTimeout)); err != nil {
		return nil, err
	}
	err := k.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: s.id, BlockFragment: block.Bytes(), EndHeaders: true})
	for err == nil && s.status == "" && !s.ended {
		err = k.take()
	}
	if err != nil {
		return nil, err
	}
	if s.status != "200" {
		return nil, fmt.Errorf("extended CONNECT: got %q", s.status)
	}
	return &client{conn: s, br: bufio.NewReaderSize(s, 256)}, nil
}

// take takes a frame.
func (k *carrier) take() error {
	frame, err := k.framer.ReadFrame()
	if err != nil {
		return err
	}
	s := k.streams[frame.Header().StreamID]
	switch f := frame.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			return k.framer.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			return k.framer.WritePing(true, f.Data)
		}
	case *http2.GoAwayFrame:
		return fmt.Errorf("HTTP/2: GOAWAY %v %q", f.ErrCode, f.DebugData())
	case *http2.MetaHeadersFrame:
		s.status = f.PseudoValue("status")
	case *http2.DataFrame:
		s.in = append(s.in, f.Data()...)
		s.ended = s.ended || f.StreamEnded()
	case *http2.RSTStreamFrame:
		s.ended = true
	}
	return nil
}

// Read reads what came on the stream.
func (s *carried) Read(p []byte) (int, error) {
	for len(s.in) == 0 {
		if s.ended {
			return 0, errors.New("HTTP/2: the stream has ended")
		}
		if err := s.carrier.take(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.in)
	s.in = s.in[n:]
	return n, nil
}

// Write sends p on the stream.
func (s *carried) Write(p []byte) (int, error) {
	return len(p), s.carrier.framer.WriteData(s.id, false, p)
}

// openCarried opens tunnels, a carrier's number of them over each connection.
func (l *load) openCarried(opened []*client) error {
	carriers := (len(opened) + perCarrier - 1) / perCarrier
	return parallel(carriers, func(i int) error {
		k, err := l.connectCarrier()
		if err != nil {
			return err
		}
		for n := i * perCarrier; n < min((i+1)*perCarrier, len(opened)); n++ {
			if opened[n], err = k.tunnel(l.Path); err != nil {
				return fmt.Errorf("tunnel %d: %w", n+1, err)
			}
		}
		return nil
	})
}
