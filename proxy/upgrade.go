package proxy

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"wstunnel/internal/config"
	"wstunnel/internal/head"
	"wstunnel/internal/http1"
	"wstunnel/internal/logs"
	"wstunnel/internal/reactor"
	"wstunnel/internal/relay"
	"wstunnel/internal/rewrite"
	"wstunnel/internal/session"
	"wstunnel/internal/tags"
	"wstunnel/internal/tunnel"
	"wstunnel/internal/upstream"
	"wstunnel/internal/ws"
)

// Times that a tunnel's ends are given to answer.
const (
	// halfCloseTimeout ends a tunnel whose one direction has ended and whose other is silent.
	halfCloseTimeout = 30 * time.Second
	// closeTimeout bounds a closing handshake that this front end starts.
	closeTimeout = 5 * time.Second
)

// upgrade carries a request for a WebSocket to a server of an upstream, and joins both ends behind its 101.
type upgrade struct {
	reply
	early []byte        // what the client said behind its request
	share session.Share // what that is of the memory for slow clients
	// silent says that a server broke off without a word.
	silent bool
	id     uint64 // the tunnel's number, if it is to be one
	secret uint32
}

// serve begins.
func (x *upgrade) serve() {
	x.backlog.x = &x.reply
	x.server.tunnels.hold()
	x.id, x.secret = x.server.tunnels.lastID.Add(1), rand.Uint32()
	x.ask(x.client.Worker().Fields[:0])
}

// ask asks a server, with a head whose fields are made in dst.
func (x *upgrade) ask(dst head.Fields) {
	x.send(x.request(dst), dst, x, upstream.Needs{Upgrade: true, Patience: x.location.Timeouts.Handshake})
}

// request makes the head that a server is sent.
func (x *upgrade) request(dst head.Fields) head.Request {
	out := rewrite.Request(dst, &x.in, x.location.Location, x.upstream.Target, x.in.Request.Protocol)
	if x.location.Mode == config.ModeRelay { // each side has extensions of its own
		out.Fields = slices.DeleteFunc(out.Fields, func(f head.Field) bool { return f.ID == head.SecWebSocketExtensions })
	}
	out.Fields = append(out.Fields, head.Field{Name: tags.IDField, Value: tunnelKey(x.id, x.secret)})
	return out
}

// Connected sends the request.
func (x *upgrade) Connected(b *upstream.Conn) {
	x.backend = b
	b.Limit(x.client.Room())
	b.Ask(x, &x.out, nil)
	if x.backend == b { // it did not break
		b.Await(x.location.Timeouts.Handshake)
	}
}

// data takes what the client says behind its request, which is for the tunnel.
func (x *upgrade) data(p []byte) {
	if x.backlog.ended {
		return
	}
	x.early = append(x.early, p...)
	x.share.Set(x.client.Worker().Memory, len(x.early))
	if len(x.early) >= maxHeld {
		x.client.Pause()
	}
}

// whole is of no interest: the request had no body.
func (x *upgrade) whole(head.Fields) {}

// Took is of no interest: no more is sent.
func (x *upgrade) Took() {}

// Answered takes a head of the answer.
func (x *upgrade) Answered(r *head.Response) {
	x.backend.NoteAnswer(r)
	switch {
	case r.Status == http.StatusSwitchingProtocols:
		x.switched(r)
	case x.extended && r.Status >= 200 && r.Status < 300: // which would say that the tunnel is open
		x.fail(x.failed(fmt.Errorf("the backend answered %d, not 101", r.Status)))
	default:
		x.hintAtRefusal(r.Status)
		x.pass(r)
	}
}

// Done ends the exchange with an answer that is no 101.
func (x *upgrade) Done(trailers head.Fields) {
	x.backend.Close()
	x.backend = nil
	x.end(trailers)
	x.drop()
}

// Broke deals with a server that broke off.
func (x *upgrade) Broke(err error) {
	backend := x.backend
	x.backend = nil
	backend.Close()
	switch {
	case x.client.Responded():
		x.breakOff(err)
		x.drop()
	case !backend.Began():
		x.out, x.silent = x.request(nil), true
		x.way.Refused(x.failed(err))
	default:
		x.fail(x.failed(err))
	}
}

// Unreachable answers for servers of which none could be connected with, or none said a word.
func (x *upgrade) Unreachable(err error) {
	if x.silent {
		x.diagnose(err)
		return
	}
	x.fail(err)
}

// failed says what an error was about.
func (x *upgrade) failed(err error) error {
	return fmt.Errorf("handshake with %s: %w", x.way.Server(), err)
}

// drop forgets what came early, and lets the rest come, since nobody wants it any more.
func (x *upgrade) drop() {
	x.early = nil
	x.share.Set(x.client.Worker().Memory, 0)
	if !x.over {
		x.client.Resume()
	}
}

// leave lets go of the server, and of what came early.
func (x *upgrade) leave() {
	x.reply.leave()
	x.share.Set(x.client.Worker().Memory, 0)
	x.server.tunnels.release()
}

// checkSwitching checks a backend's 101.
func (x *upgrade) checkSwitching(answer head.Fields) error {
	request := x.in.Request.Fields
	switching := ws.Switching{Upgrade: answer.Values(head.Upgrade), Connection: answer.Values(head.Connection), Accept: answer.Values(head.SecWebSocketAccept)}
	if err := switching.Check(request.Values(head.SecWebSocketKey)); err != nil || x.location.Mode != config.ModeRelay {
		return err
	}
	return relay.CheckAnswer(request, answer)
}

// tunnelOptions are those of a tunnel whose handshake ended with the given header.
func (x *upgrade) tunnelOptions(fields head.Fields) tunnel.Options {
	return tunnel.Options{
		Extensions:       fields.Has(head.SecWebSocketExtensions),
		IdleTimeout:      x.location.Timeouts.TunnelIdle,
		HalfCloseTimeout: halfCloseTimeout,
		CloseTimeout:     closeTimeout,
		Ping:             x.location.Ping,
	}
}

// announcement is what is known of the tunnel, with what the fields of the 101 say of it.
func (x *upgrade) announcement(answer head.Fields) (is announcement, err error) {
	is.id, is.secret = x.id, x.secret
	if is.Tags, err = tags.Of(answer); err == nil {
		is.Tags, err = is.With(x.in.Tags)
	}
	if x.location.Mode != config.ModeRelay && hasForeignExtension(answer) {
		is.unpushable = foreign
	}
	return is, err
}

// hasForeignExtension reports whether a handshake has agreed on extensions other than permessage-deflate, under which a plain message may stand between two compressed
// ones (RFC 7692, section 6).
func hasForeignExtension(answer head.Fields) bool {
	for element := range strings.SplitSeq(answer.Joined(head.SecWebSocketExtensions), ",") {
		name, _, _ := strings.Cut(element, ";")
		if name = head.Trim(name); name != "" && !strings.EqualFold(name, "permessage-deflate") {
			return true
		}
	}
	return false
}

// switched checks a 101 and joins both ends.
func (x *upgrade) switched(r *head.Response) {
	if err := x.checkSwitching(r.Fields); err != nil {
		x.fail(x.failed(err))
		return
	}
	is, err := x.announcement(r.Fields)
	if err != nil {
		x.fail(x.failed(err))
		return
	}
	relayed := x.location.Mode == config.ModeRelay
	if relayed {
		if err := relay.CheckRequest(x.in.Request.Fields); err != nil {
			x.err = err
			x.leaveServer()
			x.giveLast(textAnswer(http.StatusBadRequest, err.Error()))
			return
		}
	}
	var dst head.Fields
	if !relayed { // which keeps them
		dst = x.client.Worker().Fields[:0]
	}
	x.in.Answer = r.Fields
	fields := x.applyAnswerRules(r.Status, rewrite.Response(x.stick(append(dst, x.cookies...)), r.Fields, r.Status, &x.in, x.location.Location, x.upstream.Target, x.site.HSTS > 0))
	backend, backendEarly := x.backend.Take()
	x.backend = nil
	client, early := x.takeClient()
	if relayed {
		x.relay(session.NewBridge(client, early), session.NewBridge(backend, backendEarly), fields, is, x.finish)
		return
	}
	x.join(client, backend, early, backendEarly, fields, is)
}

// takeClient takes the client's end out of its session, with what came of it.
func (x *upgrade) takeClient() (client reactor.Endpoint, early []byte) {
	if x.extended {
		x.server.admission.tidier.note()
		return session.Switch(x.client), x.early
	}
	conn, early := x.conn.client.Take()
	x.conn.forget(conn.Loop(), x.conn)
	return conn, append(x.early, early...)
}

// join answers the client and makes a tunnel of both ends.
func (x *upgrade) join(client, backend reactor.Endpoint, early, backendEarly []byte, fields head.Fields, is announcement) {
	place := x.way.Place()
	defer func() {
		if !x.tunnelled {
			place.Leave()
			backend.Close()
			client.Close()
			x.holder().leave()
		}
		x.finish()
	}()
	answer := http1.AppendStatus(x.client.Worker().Piece(512)[:0], http.StatusSwitchingProtocols)
	answer = append(answer, "Upgrade: websocket\r\nConnection: Upgrade\r\n"...)
	answer = append(http1.AppendFields(answer, fields, false), "\r\n"...)
	if err := client.Write(answer); err != nil {
		x.err, x.clientGone = err, true
		return
	}
	info, options := x.tunnelInfo(fields), x.tunnelOptions(fields)
	info.place = place
	x.server.tunnels.start(info, is, func(done func(tunnel.Result)) *tunnel.Tunnel {
		x.tunnelled = true
		return tunnel.Join(client, backend, early, backendEarly, options, done)
	})
}

// maxKept is how much of a string of a peer's is kept with a tunnel.
const maxKept = 256

// tunnelInfo says what a tunnel is, for the log and for whoever asks while it is open. It keeps nothing of the heads themselves.
func (x *upgrade) tunnelInfo(fields head.Fields) tunnelInfo {
	begin := func(s string) string { return logs.Beginning(s, maxKept) }
	kept := func(s string) string { return strings.Clone(begin(s)) }
	host := begin(x.in.Request.Host)
	both := strings.Join([]string{host, begin(x.in.Path)}, "") // in one piece of memory
	info := tunnelInfo{
		holder: *x.holder(), counts: x.site.counts, Site: x.site.name, Location: x.location.pattern, Host: both[:len(host)], Path: both[len(host):],
		Upstream: x.upstream.Target.Upstream, Backend: x.way.Server(), access: x.accessLog(), Subprotocol: kept(fields.Get(head.SecWebSocketProtocol)), Mode: x.location.Mode,
	}
	if log := x.accessLog(); log != nil && log.Format() == logs.Combined {
		r := x.logged(log)
		info.line = &logs.Request{
			Client: r.Client, Method: http.MethodGet, Proto: r.Proto, Status: http.StatusSwitchingProtocols,
			Target: kept(r.Target), Referer: kept(r.Referer), UserAgent: kept(r.UserAgent),
		}
	}
	if x.in.Client != x.in.Peer {
		info.Named = x.in.Client
	}
	return info
}
