#!/bin/sh
# Compiles the CDK construct, synthesizes stacks with it, and runs its tests and cdk-nag.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
sh "$root/tests/npm.sh" cdk "$root/layer/deploy/cdk"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export TMPDIR="$scratch"
cd "$root/target/cdk"
cp "$root"/layer/deploy/cdk/*.ts "$root/layer/deploy/cdk/tsconfig.json" .
npm exec -- tsc
MONITORING_TEMPLATE=$root/layer/deploy/monitoring.template.json node --test dist/test.js
