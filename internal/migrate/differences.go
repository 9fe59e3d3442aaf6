package migrate

// Difference is something that we do otherwise on purpose.
type Difference struct {
	// Key names it in tests.
	Key string
	// Of is Apache, nginx or both.
	Of string
	// Theirs and Ours say what each does.
	Theirs, Ours string
	// Why is the reason.
	Why string
}

// Differences are all that are wanted. docs/import.md has them too.
var Differences = []Difference{
	{
		"segments", "nginx", "`location /ws` matches `/wsx`", "`/ws` matches `/ws` and what is below it",
		"a prefix that cuts a name in two is hardly ever meant; `~ ^/ws` says it",
	},
	{
		"one-slash", "both", "`location /ws { proxy_pass http://b/; }` passes `/ws/chat` on as `//chat`; so does ProxyPass /ws http://b/",
		"exactly one slash at every join", "no program wants two; a missing one makes a bad URL",
	},
	{
		"slash-redirect", "Apache", "`<Location /ws/>` is not for `/ws`", "`/ws` leads to `/ws/` by a 301; of a WebSocket it is taken for `/ws/`",
		"as nginx does; a page that forgets the slash works",
	},
	{
		"redirect-308", "both", "http leads to https by 301 or 302", "by 308", "a POST stays a POST",
	},
	{
		"https-first", "both", "`http://www.example.com` leads to `https://example.com` at once", "to `https://www.example.com`, which leads on, or answers as its site does",
		"`redirect_https` keeps the host, as HSTS asks for",
	},
	{
		"told-anyway", "both", "nginx tells the backend only what it is told to, Apache no scheme", "X-Forwarded-For, -Host, -Port, -Proto and X-Real-IP always, X-Wstunnel-Id with a WebSocket",
		"a program has to know how it was asked for; what clients claim is replaced",
	},
	{
		"own-pages", "both", "pages of their own for errors", "pages of ours", "they have an id that stands in the log",
	},
	{
		"no-body-limit", "nginx", "bodies longer than 1 MiB get 413 unless client_max_body_size says otherwise", "no bound unless max_body sets one",
		"of recipes more than half take the bound away",
	},
	{
		"handshake-headers", "Apache", "`Header always` adds nothing to the 101 of a WebSocket", "rules of headers with always: true hold for it, as nginx's do", "no browser looks at others there",
	},
	{
		"hsts-on-redirect", "both", "the server for http has headers of its own", "headers of the site stand on its redirect to https too", "browsers take no notice of them there",
	},
	{
		"connection-lists", "Apache", "a client that names a header in Connection takes away one that Apache set", "it takes away its own only", "who asks and how is not the client's to say",
	},
	{
		"sources", "both", "a file `.php`, `.env`, `.git/config`, `.bak`, `.sql` is sent as any other where no handler is for it", "404, unless `serve_sources: true`", "a handler that is lost must not show passwords",
	},
	{
		"missing-scripts", "both", "a script that is not there is 404", "with a front controller it answers, as for all that is no file", "so that a program's own page says so",
	},
	{
		"deny-behind-php", "nginx", "a `location` that denies scripts counts only before the one for `.php`", "it counts wherever it stands", "who wrote it meant it",
	},
	{
		"hidden-files", "Apache", "`.htaccess` is 403", "404, or what the front controller says", "whether it is there is nobody's business",
	},
	{
		"basic-charset", "both", "`WWW-Authenticate: Basic realm=...`", "`charset=\"UTF-8\"` behind it", "names with umlauts work (RFC 7617)",
	},
	{
		"text-charset", "nginx", "`return 200 text` is text/plain", "`text/plain; charset=utf-8`", "so that browsers need not guess",
	},
	{
		"types", "both", "`application/javascript` for .js, and others of long ago", "the types of today, `text/javascript`", "RFC 9239",
	},
	{
		"backend-paths", "nginx", "`Location: /login` of a backend below `/app/` stays, and leads out of it", "it becomes `/app/login`, as cookies' paths do",
		"what Apache does with ProxyPassReverse, and what is meant; `rewrite_responses: false` turns it off",
	},
	{
		"allow-405", "both", "405 without Allow", "405 says what is allowed", "RFC 9110 asks for it",
	},
	{
		"head-with-get", "nginx", "where only GET is let in by `$request_method`, HEAD is not", "`method: [GET]` lets HEAD in", "who may get may ask for the head alone",
	},
	{
		"internal", "nginx", "`internal` locations of error pages are 404 for clients", "the pages are files as all others", "they hold no secrets",
	},
	{
		"compression", "both", "gzip, of the types and at the level that are named", "zstd, br or gzip, of text and what is like it from 1 KiB on; only where other types are named they count", "lists of types grow old",
	},
	{
		"claims", "both", "what a client claims in X-Forwarded-* goes on, or is added to", "it is replaced, unless trusted_proxies names the peer", "backends believe it",
	},
	{
		"host-port", "nginx", "`$host` is without the port, `$host:$server_port` with it, whatever the client sent", "the client's Host goes on as it came", "links that a program makes lead to where it was asked",
	},
	{
		"no-length", "both", "a PROPFIND or MKCOL without a body has no Content-Length", "`Content-Length: 0`", "nobody has to guess whether a body follows",
	},
	{
		"connection", "both", "a recipe's `Connection: upgrade` goes with every request", "only with requests for a WebSocket", "it says nothing without Upgrade",
	},
	{
		"idle-tunnels", "both", "a WebSocket that is silent for 60 s is cut (Apache: for Timeout)", "after an hour",
		"who sets a longer time there does so for this; tunnels cost next to nothing here",
	},
	{
		"backend-down", "Apache", "503 where the backend refuses, and for a minute after", "502, and it is asked again at once", "AH00959 has cost many a night",
	},
}
