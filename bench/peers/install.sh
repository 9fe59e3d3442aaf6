#!/bin/sh
# Installs the peers that are missing from Debian's packages, without letting any service start.
set -eu

missing=
for pair in nginx:nginx haproxy:haproxy caddy:caddy apache2:apache2-bin; do
	PATH="$PATH:/usr/sbin" command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair##*:}"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
	echo "not installed, and so not measured:$missing (as root, $0 installs them)" >&2
	exit 0
fi

# Packages start their services unless policy-rc.d forbids it with 101. One that is there already is the owner's.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	trap 'rm -f "$policy"' EXIT
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
elif "$policy" nginx start >/dev/null 2>&1; then
	echo "$policy lets services start; install$missing by hand" >&2
	exit 1
fi

echo "installing to compare with:$missing" >&2
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
