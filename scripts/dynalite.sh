#!/usr/bin/env bash
# dynalite.sh: installs dynalite, a second DynamoDB for the tests, into build/dynalite/ as requirements/dynalite/ pins it.
# It needs npm and node 20 or newer. No script of a package runs.
set -euo pipefail
cd "$(dirname "$0")/.."
pins=requirements/dynalite
there=build/dynalite
cmp -s "$pins/package-lock.json" "$there/package-lock.json" && [ -d "$there/node_modules/dynalite" ] && exit 0
command -v npm >/dev/null || { echo "cannot install dynalite: there is no npm" >&2 && exit 1; }
node -e 'process.exit(process.versions.node.split(".")[0] < 20 ? 1 : 0)' ||
    { echo "cannot install dynalite: node is older than 20" >&2 && exit 1; }
rm -rf "$there" && mkdir -p "$there"
cp "$pins"/package*.json "$there/"
# An installation that fails leaves nothing that looks like one.
npm ci --prefix "$there" --ignore-scripts --no-audit --no-fund --silent || { rm -rf "$there" && exit 1; }
