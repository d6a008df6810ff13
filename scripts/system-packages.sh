#!/usr/bin/env bash
# system-packages.sh test | haproxy | package | check: installs the Debian packages that the system tests, the tests on
# HAProxy, `make package` and a check of its packages need. Needs root.
set -euo pipefail
case ${1:-} in
    test) wanted=(debootstrap systemd-container iproute2 util-linux) ;;
    haproxy) wanted=(haproxy nghttp2-client) ;; # h2load is in the second
    package) wanted=(gcc gcc-aarch64-linux-gnu libc6-dev-arm64-cross libsystemd-dev python3.11-dev binutils gzip) ;;
    check) wanted=(lintian rpm rpmlint mandoc cpio) ;;
    *) echo "usage: scripts/system-packages.sh test | haproxy | package | check" >&2 && exit 2 ;;
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
# Debian starts what it installs. The tests start their own.
[[ " ${missing[*]} " != *" haproxy "* ]] || systemctl --quiet disable --now haproxy 2>/dev/null || true
