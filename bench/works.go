//go:build linux

package main

// work is one row of the table: the same load for every proxy, and what is counted.
type work struct {
	Name    string
	Unit    string
	memory  bool    // memory of idle tunnels or connections; otherwise CPU time
	static  bool    // files from the proxy's own directory
	connect bool    // WebSocket over HTTP/2 (RFC 8441)
	beside  *job    // goes on meanwhile; what counts is how long 99 of 100 trips take
	factor  float64 // from CPU seconds per unit of load to Unit
	job     job
	Bar     *bar
}

// turnsPerRound is the number of pieces that a proxy's work in a round is cut into. The proxies take turns after each.
const turnsPerRound = 8

// bar is what wstunnel is to reach.
type bar struct {
	Ratio float64 // at most so many times the better of nginx and HAProxy
	Value float64 // and at most this in the work's unit; 0: no such bar
}

const (
	message     = 1 << 20 // bytes of a large message or body
	micros      = 1e6
	gbOneWay    = 1e3 * 1e9 / message // ms per GB; a body passes the proxy once
	gbTwoWays   = gbOneWay / 2        // an echoed message passes it twice
	smallLoops  = 100                 // tunnels or connections with small payloads at a time
	largeLoops  = 8                   // with large ones
	openAtATime = 32
	fewLoops    = 50 // tunnels beside clients that do handshakes
	newcomers   = 64 // such clients
)

// works lists the rows: WebSocket, WebSocket over TLS, HTTP.
func works(opts options) []work {
	open := job{Kind: jobOpen, Path: "/ws", Connections: openAtATime, Size: 64}
	echo := job{Kind: jobEcho, Path: "/ws", Connections: smallLoops, Size: 64, Duration: opts.measure / turnsPerRound}
	echoLarge := job{Kind: jobEcho, Path: "/ws", Connections: largeLoops, Size: message, Duration: opts.measure / turnsPerRound}
	get := func(path string, connections, size int) job {
		return job{Kind: jobGet, Path: path, Connections: connections, Size: size, Duration: opts.measure / turnsPerRound}
	}
	idle := job{Kind: jobHold, Path: "/api/small", Connections: openAtATime, Size: smallBody, Tunnels: opts.idle}
	beside := job{Kind: jobEcho, Path: "/ws", Connections: fewLoops, Size: 64, Duration: opts.measure / 2}
	handshakes := job{Kind: jobHandshake, TLS: true, Connections: newcomers, Duration: opts.measure/2 + 2*headStart}
	return []work{
		{Name: "idle tunnel, ws", Unit: "KB", memory: true, job: open.tunnels(opts.idle), Bar: &bar{Ratio: 0.35, Value: 1.5}},
		{Name: "open a tunnel, ws", Unit: "us", factor: micros, job: open.tunnels(opts.open / turnsPerRound), Bar: &bar{Ratio: 1.05}},
		{Name: "64 B round trip, ws", Unit: "us", factor: micros, job: echo, Bar: &bar{Ratio: 0.95}},
		{Name: "1 MB messages, ws", Unit: "ms/GB", factor: gbTwoWays, job: echoLarge, Bar: &bar{Ratio: 0.3}},

		{Name: "idle tunnel, wss", Unit: "KB", memory: true, job: open.tunnels(opts.idleTLS).secure(), Bar: &bar{Ratio: 0.55, Value: 10}},
		{Name: "open a tunnel, wss", Unit: "us", factor: micros, job: open.tunnels(opts.open / turnsPerRound / 2).secure(), Bar: &bar{Ratio: 0.9}},
		{Name: "64 B round trip, wss", Unit: "us", factor: micros, job: echo.secure(), Bar: &bar{Ratio: 0.85}},
		{Name: "1 MB messages, wss", Unit: "ms/GB", factor: gbTwoWays, job: echoLarge.secure(), Bar: &bar{Ratio: 0.9}},

		{Name: "idle tunnel, h2", Unit: "KB", memory: true, connect: true, job: open.tunnels(opts.idle).overHTTP2(), Bar: &bar{Ratio: 1, Value: 2}},
		{Name: "64 B, ws, beside handshakes", Unit: "us p99", factor: 1, beside: &handshakes, job: beside, Bar: &bar{Ratio: 1}},

		{Name: "idle connection, http", Unit: "KB", memory: true, job: idle, Bar: &bar{Ratio: 1, Value: 0.8}},
		{Name: "idle connection, https", Unit: "KB", memory: true, job: idle.tunnels(opts.idleTLS).secure(), Bar: &bar{Ratio: 1, Value: 7}},
		{Name: "idle connection, h2", Unit: "KB", memory: true, job: idle.tunnels(opts.idleTLS).overHTTP2(), Bar: &bar{Ratio: 1, Value: 9}},
		{Name: "small proxied GET", Unit: "us", factor: micros, job: get("/api/small", smallLoops, smallBody), Bar: &bar{Ratio: 0.95}},
		{Name: "small proxied GET, https", Unit: "us", factor: micros, job: get("/api/small", smallLoops, smallBody).secure(), Bar: &bar{Ratio: 0.95}},
		{Name: "small proxied GET, h2", Unit: "us", factor: micros, job: get("/api/small", smallLoops, smallBody).overHTTP2(), Bar: &bar{Ratio: 1.15}},
		{Name: "1 MB proxied GET", Unit: "ms/GB", factor: gbOneWay, job: get("/api/large", largeLoops, message), Bar: &bar{Ratio: 0.6}},
		{Name: "4 KB static GET", Unit: "us", static: true, factor: micros, job: get("/static/4k.bin", smallLoops, 4096), Bar: &bar{Ratio: 1.1}},
		{Name: "4 KB static GET, h2", Unit: "us", static: true, factor: micros, job: get("/static/4k.bin", smallLoops, 4096).overHTTP2(), Bar: &bar{Ratio: 1.3}},
		{Name: "1 MB static GET", Unit: "ms/GB", static: true, factor: gbOneWay, job: get("/static/1m.bin", largeLoops, message), Bar: &bar{Ratio: 1}},
	}
}
