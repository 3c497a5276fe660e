#!/usr/bin/env bash
# Sets up .venv: asyncq itself (editable) with every extra, and the dependency groups named as arguments.
# PYTHON names an interpreter of your choice.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    echo "venv: $*" >&2
    exit 1
}

may_install() {
    command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }
}

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "asyncq needs Python 3.11 or newer; install one, or name it: make PYTHON=/path/to/python"
}

make_with_pip() {
    local python=$1
    if ! "$python" -c 'import ensurepip' 2>/dev/null; then # Debian keeps it in a package of its own
        may_install || fail "this Python makes no virtual environments; on Debian: apt-get install python3-venv"
        local sudo=()
        [ "$(id -u)" = 0 ] || sudo=(sudo -n)
        "${sudo[@]}" apt-get update -qq
        "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y python3-venv >/dev/null
    fi
    "$python" -m venv .venv
}

groups=()
for group in "$@"; do
    groups+=(--group "$group")
done

echo "venv: setting up .venv" >&2
usable=no
[ -x .venv/bin/python ] && new_enough .venv/bin/python && usable=yes

if command -v uv >/dev/null; then
    [ "$usable" = yes ] || uv venv --quiet --clear --python "$(find_python)" .venv
    uv pip install --quiet --python .venv/bin/python --editable '.[all]' "${groups[@]}"
else
    if [ "$usable" = no ]; then
        rm -rf .venv
        make_with_pip "$(find_python)"
    fi
    # 25.1 is the first pip that reads dependency groups.
    .venv/bin/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[all]' "${groups[@]}"
fi
