#!/usr/bin/env bash
# Resolve the newest allowed versions and write them, with hashes, to requirements/*.txt. Run by `make pins`.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${VENV:-.venv}/bin/uv

compile() {
  "$uv" pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
    --no-emit-index-url --no-emit-find-links --custom-compile-command "make pins" "$@"
}

compile requirements/uv.in --output-file requirements/uv.txt
compile pyproject.toml --overrides requirements/test-overrides.txt --extra all --group dev \
  --output-file requirements/test.txt
# The demo's environment is a subset of the tests' environment, in the same versions.
compile pyproject.toml --overrides requirements/test-overrides.txt --group demo \
  --constraints requirements/test.txt --output-file requirements/demo.txt

if grep -nE '(file|https?)://|^--|find-links|(^|[[:space:]])/' requirements/*.txt; then
  echo "compile-pins: the lines above name a host or a path of this machine" >&2
  exit 1
fi
