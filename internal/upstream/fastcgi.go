package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// A FastCGI application closes the connection of one who speaks HTTP to it, without a word. So it is asked in its own protocol.
const (
	// fastCGIQuestion is a management record, FCGI_GET_VALUES: how many connections at most? Any application answers it.
	fastCGIQuestion = "\x01\x09\x00\x00\x00\x10\x00\x00\x0e\x00FCGI_MAX_CONNS"
	// fastCGIAnswer begins the record that it answers with, FCGI_GET_VALUES_RESULT.
	fastCGIAnswer = "\x01\x0a\x00\x00"
	// fastCGIPatience bounds the question, and fastCGIPause is the time between two of them.
	fastCGIPatience = time.Second
	fastCGIPause    = time.Minute
)

var errLooksLikeFastCGI = errors.New("this looks like FastCGI, and HTTP is spoken to targets of http; for PHP write php: and this address, with root: and the directory of its scripts")

// diagnose adds to the error of a server that broke off without a word what it looks like.
func (p *Pool) diagnose(ctx context.Context, err error) error {
	var timeout net.Error
	if p.secure || p.applications || !IsSilence(err) || errors.As(err, &timeout) && timeout.Timeout() || !p.isFastCGI(ctx) {
		return err
	}
	return fmt.Errorf("%w; %w", err, errLooksLikeFastCGI)
}

// isFastCGI asks the server now and then, and remembers what it said.
func (p *Pool) isFastCGI(ctx context.Context) bool {
	now := int64(p.clock.Elapsed())
	if last := p.fastCGIAsked.Load(); last != 0 && now-last < int64(fastCGIPause) || !p.fastCGIAsked.CompareAndSwap(last, now) {
		return p.fastCGI.Load()
	}
	ctx, cancel := within(ctx, p.clock, fastCGIPatience)
	defer cancel()
	is := AnswersLikeFastCGI(ctx, p.network, p.address)
	p.fastCGI.Store(is)
	return is
}

// AnswersLikeFastCGI asks a server whether it is a FastCGI application.
func AnswersLikeFastCGI(ctx context.Context, network, address string) bool {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return false
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	answer := make([]byte, len(fastCGIAnswer))
	if _, err := io.WriteString(conn, fastCGIQuestion); err != nil {
		return false
	}
	_, err = io.ReadFull(conn, answer)
	return err == nil && string(answer) == fastCGIAnswer
}
