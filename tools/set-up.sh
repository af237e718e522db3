#!/usr/bin/env bash
# Build or complete the environment in .venv:  tools/set-up.sh demo|test
# Everything that is installed is pinned, with hashes, in requirements/. Called by the Makefile.
set -euo pipefail
cd "$(dirname "$0")/.."
profile=${1:?"say which: demo or test"}
venv=${VENV:-.venv}
python=${PYTHON:-python3}

make_venv() {
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "set-up: $python is $("$python" -V 2>&1); Python 3.11 or newer is needed (make PYTHON=python3.12 ...)" >&2
    exit 1
  }
  "$python" -m venv --clear "$venv" && return
  # Debian and Ubuntu split venv off from Python.
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -q && apt-get install -qy --no-install-recommends python3-venv
    "$python" -m venv --clear "$venv"
  else
    echo "set-up: '$python -m venv' failed; on Debian and Ubuntu: apt-get install python3-venv" >&2
    exit 1
  fi
}

"$venv/bin/python" -c 'import pip' 2>/dev/null || make_venv
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt

uv() { UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-300} "$venv/bin/uv" pip install --python "$venv/bin/python" "$@"; }
uv --require-hashes -r "requirements/$profile.txt"
uv --quiet --no-deps --no-build-isolation --editable .
