#!/usr/bin/env bash
# Prints the folder of a minimal Debian 12 with systemd, which is made on first use (about 1 min) and then kept in
# /var/cache/zdd-agent-tests. The hosts of tests/system boot overlays of it; nothing ever writes into the tree itself.
# Needs root, debootstrap and a Debian mirror. MIRROR= names another mirror.
set -euo pipefail

# python3-systemd is what the deb depends on; the rest is what a cloud image has and minbase has not.
packages=systemd-sysv,dbus,python3,python3-systemd,ca-certificates,iproute2,procps,libpam-systemd
# The mirror of this machine's own apt, if it is Debian 12; otherwise debootstrap's.
mirror=${MIRROR:-$(apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' |
    awk '$2 == "bookworm" && $3 == "main" { print $1; exit }')}
cache=/var/cache/zdd-agent-tests
key=$(printf '%s %s' "$packages" "$mirror" | cat - "$0" | sha256sum | cut -c1-12)
tree=$cache/bookworm-$key

if [ ! -d "$tree" ]; then
    mkdir -p "$cache"
    exec 9>"$cache/.lock"
    flock 9 # of two runs at once one builds, the other finds it
    if [ ! -d "$tree" ]; then
        new=$(mktemp -d "$cache/.new-XXXXXX")
        trap 'rm -rf "$new"' EXIT
        debootstrap --variant=minbase --include="$packages" bookworm "$new" ${mirror:+"$mirror"} >"$cache/debootstrap.log" 2>&1 || {
            tail -n 5 "$cache/debootstrap.log" >&2
            echo "cannot make a Debian tree: see $cache/debootstrap.log" >&2
            exit 1
        }
        # A host of a test: no waiting for hardware or names, a machine ID of its own at each boot, a journal in memory.
        rm -rf "$new"/var/cache/apt/archives/*.deb "$new"/var/lib/apt/lists/* "$new"/etc/hostname
        : >"$new/etc/machine-id"
        for unit in systemd-resolved systemd-timesyncd systemd-networkd apt-daily.timer apt-daily-upgrade.timer \
            e2scrub_all.timer dpkg-db-backup.timer getty@tty1 console-getty systemd-firstboot; do
            case $unit in *.timer) ;; *) unit=$unit.service ;; esac
            ln -sf /dev/null "$new/etc/systemd/system/$unit"
        done
        mkdir -p "$new/etc/systemd/journald.conf.d"
        printf '[Journal]\nStorage=volatile\nRateLimitBurst=0\n' >"$new/etc/systemd/journald.conf.d/test.conf"
        chmod 755 "$new"
        mv "$new" "$tree"
        trap - EXIT
    fi
fi
echo "$tree"
