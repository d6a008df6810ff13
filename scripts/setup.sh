#!/usr/bin/env bash
# setup.sh lab | dev: makes .venv with the pinned requirements and this project in it.
# It does nothing if everything is in place. It installs missing system packages if this user may do that without a
# password; otherwise it prints the one command that installs them. PYTHON names the interpreter to use.
set -euo pipefail
cd "$(dirname "$0")/.."
here=$(pwd -P)

say() { printf 'set-up: %s\n' "$*" >&2; }
fail() {
    printf 'cannot set up: %s\n' "$*" >&2
    exit 1
}

case ${1:-} in
    lab) sets=(lab) ;;
    dev) sets=(lab dev) ;; # dev holds all of lab
    *) fail "usage: scripts/setup.sh lab | dev" ;;
esac
wanted=$1

# What an installation depends on. The path counts: a venv contains its own path, and the editable install this one.
key() { # SET
    {
        printf '%s\n' "$here"
        .venv/bin/python -ISc 'import sys; print(sys.version)'
        cat scripts/setup.sh pyproject.toml requirements/build.txt "requirements/$1.txt"
    } | sha256sum
}
stamp() { printf '.venv/.installed-%s' "$1"; }

if [ -x .venv/bin/python ] && [ -f "$(stamp "$wanted")" ] && [ "$(key "$wanted")" = "$(cat "$(stamp "$wanted")")" ]; then
    exit 0
fi

new_enough() { "$@" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    local candidate
    for candidate in "${PYTHON:-python3}" python3.13 python3.12 python3.11 /usr/bin/python3; do
        if command -v "$candidate" >/dev/null && new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
}

venv_is_usable() {
    grep -qsF "$here/.venv/bin/python" .venv/bin/pip && new_enough .venv/bin/python &&
        .venv/bin/python -c 'import pip' 2>/dev/null
}

# Prints the Debian packages that $python needs to make a venv and to build systemd-python, one per line.
missing_packages() {
    local version cc include
    if [ -z "$python" ]; then # as on Ubuntu 22.04, whose own python3 is too old
        printf '%s\n' python3.11 python3.11-venv python3.11-dev
        version=3.11 cc=gcc include=
    else
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        cc=${CC:-$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("CC") or "cc")')}
        cc=${cc%% *}
        include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
        venv_is_usable || "$python" -c 'import ensurepip, venv' 2>/dev/null || echo "python$version-venv"
    fi
    if [ "$(uname -s)" != Linux ] || .venv/bin/python -c 'import systemd.daemon' 2>/dev/null; then
        return
    fi
    if ! command -v "$cc" >/dev/null; then
        printf '%s\n' gcc libc6-dev
    elif ! echo '#include <stdlib.h>' | "$cc" -x c -fsyntax-only - 2>/dev/null; then
        echo libc6-dev
    fi
    [ -z "$include" ] || [ -f "$include/Python.h" ] || echo "python$version-dev"
    if ! command -v "${PKG_CONFIG:-pkg-config}" >/dev/null; then
        printf '%s\n' pkg-config libsystemd-dev
    elif ! "${PKG_CONFIG:-pkg-config}" --exists libsystemd; then
        echo libsystemd-dev
    fi
}

install_packages() { # PACKAGE...
    local as_root=()
    command -v apt-get >/dev/null ||
        fail "these packages are missing (by their Debian names): $*; there is no apt-get here to install them"
    if [ "$(id -u)" != 0 ]; then
        if ! command -v sudo >/dev/null; then
            say "system packages are missing, and only root may install them. Run this, then try again:"
            echo "su -c 'apt-get update && apt-get install -y --no-install-recommends $*'" >&2
            exit 1
        elif ! sudo -n true 2>/dev/null; then
            say "system packages are missing, and sudo asks for a password. Run this, then try again:"
            echo "sudo sh -c 'apt-get update && apt-get install -y --no-install-recommends $*'" >&2
            exit 1
        fi
        as_root=(sudo -n)
    fi
    say "installing system packages: $*"
    # A machine that has just booted may be installing its own upgrades: wait for the lock, 120 s at most.
    local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120)
    "${apt[@]}" update >/dev/null || say "apt-get update failed; trying with the package lists that are here"
    "${apt[@]}" install -y --no-install-recommends "$@" >/dev/null || fail "apt-get could not install $*"
}

python=$(find_python)
mapfile -t missing < <(missing_packages)
if [ ${#missing[@]} -gt 0 ]; then
    install_packages "${missing[@]}"
    hash -r
    python=$(find_python)
    mapfile -t missing < <(missing_packages)
    [ ${#missing[@]} -eq 0 ] ||
        fail "${python:-python3} still lacks ${missing[*]}; PYTHON=/usr/bin/python3 may be the better interpreter"
fi

if ! venv_is_usable; then
    say "making .venv with $("$python" --version 2>&1) ($(command -v "$python"))"
    rm -rf .venv
    "$python" -m venv .venv
fi
rm -f .venv/.installed-*

pip() {
    .venv/bin/python -m pip --disable-pip-version-check --no-input install -qq "$@"
}
# systemd-python comes as source. The tools that build it are pinned and installed first. Without build isolation pip
# uses them, and downloads nothing that is not pinned.
say "installing requirements/$wanted.txt"
pip --require-hashes -r requirements/build.txt
pip --require-hashes --use-pep517 --no-build-isolation -r "requirements/$wanted.txt"
pip --no-deps --no-build-isolation --editable .

for set in "${sets[@]}"; do
    key "$set" >"$(stamp "$set")"
done
say "done in $SECONDS s"
