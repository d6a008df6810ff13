#!/usr/bin/env bash
# test-system.sh [--must] [PYTEST-ARGUMENT…]: the tests on real systemd hosts, where this machine can run them.
set -euo pipefail
must=
[ "${1:-}" = --must ] && must=1 && shift
why=
[ "$(id -u)" = 0 ] || why="it needs root"
[ -n "$why" ] || unshare --net --mount true 2>/dev/null || why="it may not make namespaces"
[ -n "$why" ] || command -v apt-get >/dev/null || why="it needs Debian or Ubuntu"
if [ -n "$why" ]; then
    echo "left out: tests/system ($why); run it with: sudo make test-system"
    [ -z "$must" ]
    exit
fi
scripts/system-packages.sh test
scripts/system-packages.sh package
.venv/bin/pip install -q --require-hashes -r packaging/tools.txt
status=0
.venv/bin/pytest tests/system -p no:xdist "$@" || status=$?
[ "$status" = 5 ] || exit "$status" # 5: the arguments picked none of these
