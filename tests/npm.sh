#!/bin/sh
# npm.sh NAME FOLDER: packages from npm in target/NAME, pinned by the package-lock.json of FOLDER.
#
# Does nothing where it holds just these. Scripts of packages do not run.
set -eu

into=$(dirname "$0")/../target/$1

if ! npm --version >/dev/null 2>&1; then
    echo "npm is missing: install Node.js 20 or newer" >&2
    exit 1
fi
if ! cmp -s "$2/package-lock.json" "$into/.pinned"; then
    echo "fetching the packages of $2 from npm into target/$1"
    rm -rf "$into"
    mkdir -p "$into"
    cp "$2/package.json" "$2/package-lock.json" "$into"
    npm ci --prefix "$into" --ignore-scripts --no-audit --no-fund --silent
    cp "$2/package-lock.json" "$into/.pinned"
fi
