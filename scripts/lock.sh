#!/usr/bin/env bash
# Writes requirements/*.txt from pyproject.toml: every version and every hash, for Linux and macOS.
# Without arguments it keeps the pins that still fit; `scripts/lock.sh --upgrade` takes the newest of everything.
set -euo pipefail
cd "$(dirname "$0")/.."

uv=.venv/bin/uv
[ -x "$uv" ] || uv=$(command -v uv) || {
    echo "cannot lock: there is no uv; run 'make lock'" >&2
    exit 1
}

# uv does not read pip's settings. The index goes through the environment and never into a file.
# (`pip config get` looks into one file only; `list` knows them all, and the environment first.)
index=$(.venv/bin/python -m pip config list 2>/dev/null | sed -n "s/^[^=]*\.index-url='\(.*\)'$/\1/p" | head -n 1)
[ -z "$index" ] || export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}
export UV_CUSTOM_COMPILE_COMMAND="make lock"

compile() { # NAME ARGUMENT...
    local name=$1
    shift
    "$uv" pip compile --quiet --universal --generate-hashes --python-version 3.11 \
        --no-emit-index-url --no-emit-find-links --output-file "requirements/$name.txt" "$@"
}

# dev holds the most, so it is solved first; the others take their versions from it.
compile dev pyproject.toml --extra lab --extra dev ${1:+"$1"}
compile lab pyproject.toml --extra lab --constraints requirements/dev.txt
compile agent pyproject.toml --constraints requirements/dev.txt
compile build --group build --constraints requirements/dev.txt ${1:+"$1"}
