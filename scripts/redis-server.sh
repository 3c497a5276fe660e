#!/usr/bin/env bash
# Sees to it that redis-server can be started by the tests, each on a free port and in a folder of its own.
# Installs it where we may, and lets no system-wide service of it run.
set -euo pipefail

command -v redis-server >/dev/null && exit 0

sudo=()
if [ "$(id -u)" != 0 ]; then
    sudo=(sudo -n)
fi
if ! command -v apt-get >/dev/null || ! "${sudo[@]}" true 2>/dev/null; then
    echo "redis-server is not on PATH, and the tests need it; on Debian: sudo apt-get install redis-server" >&2
    exit 1
fi

echo "redis-server is missing: installing it with apt-get" >&2
policy=/usr/sbin/policy-rc.d # Debian asks it before a package may start its service; 101 means no
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee "$policy" >/dev/null
    "${sudo[@]}" chmod 755 "$policy"
    trap '"${sudo[@]}" rm -f "$policy"' EXIT
fi
"${sudo[@]}" apt-get update -qq
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends redis-server >/dev/null
if command -v systemctl >/dev/null; then
    "${sudo[@]}" systemctl disable --quiet redis-server || echo "redis-server may start at the next boot" >&2
fi
command -v redis-server >/dev/null
