#!/usr/bin/env bash
# layers.sh FOLDER: the lab's app and what it needs of PyPI, for the Python of the hosts, as a layer over the image.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=$1/opt/lab
mkdir -p "$folder"
wanted=$(mktemp)
trap 'rm -f "$wanted"' EXIT
awk '/^[a-z]/ { on = /^(uvloop|httptools)==/ } on' requirements/lab.txt >"$wanted"
.venv/bin/python -m pip --disable-pip-version-check install -qq --no-deps --require-hashes --only-binary=:all: \
    --implementation cp --python-version 3.11 --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 --platform manylinux_2_17_x86_64 \
    --target "$folder" -r "$wanted"
cp -r agent/zdd_lab "$folder/"
