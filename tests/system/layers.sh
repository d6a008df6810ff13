#!/usr/bin/env bash
# Prints the folder of the lab's app with what it needs of PyPI, for the Python of the hosts: a layer over the image.
# It is made once for each state of this tree, and kept beside the image. Needs root.
set -euo pipefail
cd "$(dirname "$0")/../.."
cache=/var/cache/zdd-agent-tests
mkdir -p "$cache"
key=$(find agent/zdd_lab -name '*.py' | LC_ALL=C sort | xargs sha256sum | cat - "$0" requirements/lab.txt | sha256sum | cut -c1-12)
layer=$cache/layer-$key

exec 9>"$cache/.layer-lock"
flock 9 # of two runs at once one makes it, the other finds it
if [ ! -d "$layer" ]; then
    find "$cache" -maxdepth 1 -name 'layer-*' -mtime +2 -exec rm -rf {} + # of trees that are gone
    new=$(mktemp -d "$cache/.new-XXXXXX")
    trap 'rm -rf "$new"' EXIT
    folder=$new/opt/lab
    mkdir -p "$folder"
    awk '/^[a-z]/ { on = /^(uvloop|httptools)==/ } on' requirements/lab.txt >"$new/wanted.txt"
    .venv/bin/python -m pip --disable-pip-version-check install -qq --no-deps --require-hashes --only-binary=:all: \
        --implementation cp --python-version 3.11 --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 \
        --platform manylinux_2_17_x86_64 --target "$folder" -r "$new/wanted.txt" >&2
    rm "$new/wanted.txt"
    cp -r agent/zdd_lab "$folder/"
    chmod 755 "$new"
    mv "$new" "$layer"
    trap - EXIT
fi
echo "$layer"
