#!/usr/bin/env bash
# test.sh [--system] [PYTEST-ARGUMENT…]: all tests. Those on hosts with real systemd run if this machine can run them.
# --system: only those; it is an error if this machine cannot run them.
set -euo pipefail
system=
[ "${1:-}" = --system ] && system=1 && shift
why=
[ "$(id -u)" = 0 ] || why="it needs root"
[ -n "$why" ] || unshare --net --mount true 2>/dev/null || why="it may not make namespaces"
[ -n "$why" ] || command -v apt-get >/dev/null || why="it needs Debian or Ubuntu"
if [ -z "$why" ]; then
    scripts/system-packages.sh test
    scripts/system-packages.sh package
    .venv/bin/pip install -q --require-hashes -r packaging/tools.txt
else
    echo "left out: tests/system ($why); run it with: sudo make test-system"
    [ -z "$system" ] || exit 1
    set -- --ignore tests/system "$@"
fi
# The tests on HAProxy need root only for its installation. Where it is not installed, they say how to run them.
if [ -z "$system" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    scripts/system-packages.sh haproxy || echo "left out: the tests on HAProxy (its packages cannot be installed)"
fi
[ -n "$system" ] || scripts/dynalite.sh || echo "left out: the tests of slots on dynalite, a second DynamoDB"
# Most of these tests wait most of the time: for a balancer's delays, for a host that boots. So more run at once
# than there are cores.
# One module, one process: its tests share hosts or a lab. tests/conftest.py says which module begins first.
workers=$(($(getconf _NPROCESSORS_ONLN) * 2))
exec .venv/bin/pytest -n "$workers" --dist loadscope --no-loadscope-reorder ${system:+tests/system} "$@"
