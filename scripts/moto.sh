#!/usr/bin/env bash
# Sets up .venv-moto: moto's server, which imitates AWS for the tests. An environment of its own, since moto wants another
# botocore than aiobotocore does. PYTHON names an interpreter of your choice.
set -euo pipefail
cd "$(dirname "$0")/.."

wanted='moto[server]==5.2.5'
stamp=.venv-moto/.installed

[ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && exit 0

echo "moto: setting up .venv-moto" >&2
python=${PYTHON:-.venv/bin/python}
if command -v uv >/dev/null; then
    uv venv --quiet --clear --python "$python" .venv-moto
    uv pip install --quiet --python .venv-moto/bin/python "$wanted"
else
    "$python" -m venv --clear .venv-moto
    .venv-moto/bin/python -m pip install --quiet --disable-pip-version-check "$wanted"
fi
echo "$wanted" >"$stamp"
