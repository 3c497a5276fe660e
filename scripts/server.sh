#!/usr/bin/env bash
# Sees to it that a server can be started by the tests, each on free ports and in a folder of its own: its command from
# PATH, else the Debian package of the same name, where we may install it. No system-wide service of it is run.
set -euo pipefail

server=$1 # redis-server, rabbitmq-server
# Debian keeps what only starts a server out of a user's PATH.
PATH=$PATH:/usr/sbin:/usr/lib/rabbitmq/bin

command -v "$server" >/dev/null && exit 0

sudo=()
if [ "$(id -u)" != 0 ]; then
    sudo=(sudo -n)
fi
if ! command -v apt-get >/dev/null || ! "${sudo[@]}" true 2>/dev/null; then
    echo "$server is not on PATH, and the tests need it; on Debian: sudo apt-get install $server" >&2
    exit 1
fi

echo "$server is missing: installing it with apt-get" >&2
policy=/usr/sbin/policy-rc.d # Debian asks it before a package may start its service; 101 means no
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee "$policy" >/dev/null
    "${sudo[@]}" chmod 755 "$policy"
    trap '"${sudo[@]}" rm -f "$policy"' EXIT
fi
"${sudo[@]}" apt-get update -qq
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$server" >/dev/null
if command -v systemctl >/dev/null; then
    "${sudo[@]}" systemctl disable --quiet "$server" || echo "$server may start at the next boot" >&2
fi
command -v "$server" >/dev/null
