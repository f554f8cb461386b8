#!/bin/sh
# Compiles the CDK construct, synthesizes stacks with it, and runs its tests and cdk-nag. Then synthesizes the app that
# `modelctl init` writes.
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

mkdir "$scratch/release"
cp "$root/layer/deploy/monitoring.template.json" "$scratch/release"
for name in model-sidecar model-handler; do
    echo "$name" >"$scratch/release/$name-x86_64.zip"
done
"$root/target/debug/modelctl" init --cdk "$scratch/app" --release "$scratch/release" \
    --name fraud --model s3://models/fraud/manifest.json --memory 3008
cd "$scratch/app"
ln -s "$root/target/cdk/node_modules" node_modules
npm exec -- tsc
CDK_OUTDIR=out node dist/app.js
for output in Url Alias AlarmPrefix; do
    grep -q "^  \"$output\": {" out/fraud.template.json ||
        { echo "app.ts has no output $output" >&2; exit 1; }
done
echo "ok: the app of \`modelctl init\` has a template with its outputs"
