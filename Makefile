# `make test` is the whole check; it installs what it needs on a Debian machine with Go, git and make.

GOFUMPT     = go run mvdan.cc/gofumpt@v0.12.0
STATICCHECK = go run honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME    = 10s
# What `wstunnel version` says: the tag, or the commits since it. Where there is no repository: make VERSION=v1.2.3
VERSION    ?= $(shell git describe --tags --always --dirty 2>/dev/null)
BINARY      = bin/wstunnel

.PHONY: build install man test check tools fuzz bench soak clean

build:
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.release=$(VERSION)' -o $(BINARY) ./cmd/wstunnel

# The binary, the units, the example configuration, manual pages and what makes shells complete; DESTDIR for packagers.
SHARE = $(DESTDIR)/usr/local/share
install: build
	install -D -m 755 $(BINARY) $(DESTDIR)/usr/local/bin/wstunnel
	install -D -m 644 systemd/wstunnel.service $(DESTDIR)/usr/lib/systemd/system/wstunnel.service
	install -D -m 644 systemd/wstunnel.socket $(DESTDIR)/usr/lib/systemd/system/wstunnel.socket
	install -D -m 644 systemd/wstunnel.sysusers $(DESTDIR)/usr/lib/sysusers.d/wstunnel.conf
	install -D -m 644 systemd/wstunnel.tmpfiles $(DESTDIR)/usr/lib/tmpfiles.d/wstunnel.conf
	install -D -m 644 config.example.yaml $(DESTDIR)/usr/share/doc/wstunnel/config.example.yaml
	install -D -m 644 LICENSE $(DESTDIR)/usr/share/doc/wstunnel/LICENSE
	install -d $(SHARE)/man/man1 $(SHARE)/man/man5 $(SHARE)/bash-completion/completions $(SHARE)/zsh/site-functions $(SHARE)/fish/vendor_completions.d
	install -m 644 man/*.1 $(SHARE)/man/man1
	install -m 644 man/*.5 $(SHARE)/man/man5
	$(BINARY) completion bash | install -m 644 /dev/stdin $(SHARE)/bash-completion/completions/wstunnel
	$(BINARY) completion zsh | install -m 644 /dev/stdin $(SHARE)/zsh/site-functions/_wstunnel
	$(BINARY) completion fish | install -m 644 /dev/stdin $(SHARE)/fish/vendor_completions.d/wstunnel.fish
	if [ -z "$(DESTDIR)" ]; then systemd-sysusers && systemd-tmpfiles --create wstunnel.conf && systemctl daemon-reload; fi

# The manual pages, from the commands' own help and docs/reference; a test finds them out of date.
man:
	go run ./cmd/wstunnel man man docs/reference

# The tests that it makes a difference to what tells a loop that a connection is ready: of the server, and with real programs.
ON_LOOPS = Tunnel|HTTP2|Relay|Slow|Spool|Static|Pipelin|Idle|Shutdown|Drain|AnotherServer|EveryAnswer|Early|Stall|HalfClos|Reset|Stop|Flood|Pong|Splice|Upload|Download|WindsDown
WITH_PROGRAMS = PHP|Python|Conversation|CloseCodes|Relay|Refusal|SIGTERM|Reload|H2spec|Events|Browser|NothingBehind|NoGoroutine|UpgradeKeeps|FullSpeed

# Everything; then once more what runs on event loops, without the race detector, since loops are watched for how long they are held; and on the
# goroutines that take their place on other systems.
test: tools check
	go test -race -shuffle=on -timeout 15m ./...
	go test -shuffle=on -timeout 15m ./proxy
	go test -race -shuffle=on -timeout 15m -tags portable ./internal/reactor ./internal/session ./internal/tunnel
	go test -race -shuffle=on -timeout 15m -tags portable -run '$(ON_LOOPS)' ./proxy
	go test -race -shuffle=on -timeout 15m -tags portable -run '$(WITH_PROGRAMS)' ./cmd/wstunnel

check:
	@unformatted=$$($(GOFUMPT) -l .) && if [ -n "$$unformatted" ]; then echo "not formatted with gofumpt:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	$(STATICCHECK) ./...
	$(STATICCHECK) -tags portable ./...
	GOOS=darwin go build -o /dev/null ./...
	GOOS=freebsd go build -o /dev/null ./...

# The programs that the tests run for real. Pebble, an ACME authority, they build for themselves, at a version of internal/pebble. Node.js may be another one than
# Debian's, with an npm of its own.
PROGRAMS = php chromium certutil openssl systemd-analyze setpriv apache2 mariadbd mariadb-install-db nginx man zsh fish node npm
PACKAGES = php-cli chromium libnss3-tools python3-websockets openssl systemd fonts-liberation util-linux \
	apache2 libapache2-mod-php mariadb-server-core wordpress php-mysql nginx php-fpm man-db bash-completion zsh fish

# No package's own service is started: the tests run the programs themselves, on ports of this machine's own.
tools:
	@missing=; for p in $(PROGRAMS); do command -v $$p >/dev/null || missing="$$missing $$p"; done; \
	/usr/bin/python3 -c 'import websockets' 2>/dev/null || missing="$$missing python3-websockets"; \
	test -e /usr/share/wordpress/wp-load.php || missing="$$missing wordpress"; \
	test -e /usr/share/doc/libapache2-mod-php || missing="$$missing libapache2-mod-php"; \
	test -e /usr/share/bash-completion/bash_completion || missing="$$missing bash-completion"; \
	ls /usr/sbin/php-fpm* >/dev/null 2>&1 || missing="$$missing php-fpm"; \
	if [ -n "$$missing" ]; then \
		echo "installing for the tests:$$missing"; \
		policy=/usr/sbin/policy-rc.d; if [ ! -e $$policy ]; then \
			trap "rm -f $$policy" EXIT; printf '#!/bin/sh\nexit 101\n' >$$policy && chmod 755 $$policy; fi; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(PACKAGES) \
			$$(command -v npm >/dev/null || echo nodejs npm) >/dev/null; \
	fi

# Each fuzz target for FUZZTIME.
fuzz:
	@set -e; grep -rlE '^func Fuzz' --include='*_test.go' . | while read -r file; do \
		for target in $$(sed -nE 's/^func (Fuzz[A-Za-z0-9_]*)\(.*/\1/p' "$$file"); do \
			echo "$$target in $$(dirname "$$file")"; \
			go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) "$$(dirname "$$file")"; \
		done; \
	done

# CPU time and memory beside nginx, HAProxy, Caddy and Apache, in about ten minutes; BENCHFLAGS=-quick tries it out.
bench: build
	bench/peers/install.sh
	go build -o bin/bench ./bench
	bin/bench $(BENCHFLAGS)

# Ten minutes of 2,000 tunnels and of requests, while backends die, the configuration is reloaded and the binary is upgraded; what was lost is counted.
# PEER=nginx or PEER=haproxy puts those in its place; SOAKFLAGS='-duration 1m -tunnels 200' tries it out.
PEER = wstunnel
soak: build
	bench/peers/install.sh
	go build -o bin/soak ./soak
	bin/soak -peer $(PEER) $(SOAKFLAGS)

clean:
	rm -rf bin
