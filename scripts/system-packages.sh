#!/usr/bin/env bash
# system-packages.sh test | package | check: installs the Debian packages that the system tests, `make package` and a
# check of its packages need. Needs root.
set -euo pipefail
case ${1:-} in
    test) wanted=(debootstrap systemd-container iproute2 util-linux) ;;
    package) wanted=(gcc gcc-aarch64-linux-gnu libc6-dev-arm64-cross libsystemd-dev python3.11-dev binutils gzip) ;;
    check) wanted=(lintian rpm rpmlint mandoc cpio) ;;
    *) echo "usage: scripts/system-packages.sh test | package | check" >&2 && exit 2 ;;
esac
missing=()
for package in "${wanted[@]}"; do
    [ "$(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null)" = "ii " ] || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0
[ "$(id -u)" = 0 ] || { echo "cannot install ${missing[*]}: run as root" >&2 && exit 1; }
export DEBIAN_FRONTEND=noninteractive
apt-get -qq -o DPkg::Lock::Timeout=120 update >/dev/null
apt-get -qq -o DPkg::Lock::Timeout=120 install -y --no-install-recommends "${missing[@]}" >/dev/null
