#!/usr/bin/env bash
# Sees to it that rabbitmq-server can be started by the tests, each node on free ports and in a folder of its own.
# Installs it where we may, and lets no system-wide service of it run.
set -euo pipefail

# Debian keeps what it starts out of a user's PATH.
PATH=$PATH:/usr/sbin:/usr/lib/rabbitmq/bin

command -v rabbitmq-server >/dev/null && exit 0

sudo=()
if [ "$(id -u)" != 0 ]; then
    sudo=(sudo -n)
fi
if ! command -v apt-get >/dev/null || ! "${sudo[@]}" true 2>/dev/null; then
    echo "rabbitmq-server is not on PATH, and the tests need it; on Debian: sudo apt-get install rabbitmq-server" >&2
    exit 1
fi

echo "rabbitmq-server is missing: installing it with apt-get" >&2
policy=/usr/sbin/policy-rc.d # Debian asks it before a package may start its service; 101 means no
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee "$policy" >/dev/null
    "${sudo[@]}" chmod 755 "$policy"
    trap '"${sudo[@]}" rm -f "$policy"' EXIT
fi
"${sudo[@]}" apt-get update -qq
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -qq -y --no-install-recommends rabbitmq-server >/dev/null
if command -v systemctl >/dev/null; then
    "${sudo[@]}" systemctl disable --quiet rabbitmq-server || echo "rabbitmq-server may start at the next boot" >&2
fi
command -v rabbitmq-server >/dev/null
