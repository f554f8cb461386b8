#!/bin/sh
# Builds the release of the last commit twice, from two clones with names of different lengths, and compares the files.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
into=$root/target/reproducible
rm -rf "$into"
mkdir -p "$into"
for name in one a-clone-with-a-longer-name; do
    git clone --quiet --no-hardlinks "$root" "$into/$name"
    ${MAKE:-make} --no-print-directory -C "$into/$name" release
done
if ! diff -r "$into/one/dist/release" "$into/a-clone-with-a-longer-name/dist/release"; then
    echo "the releases differ: see $into" >&2
    exit 1
fi
cat "$into/one/dist/release/SHA256SUMS"
rm -rf "$into"
echo "both clones gave these files"
