#!/bin/sh
# publish-layer.sh ZIP ORGANIZATION REGION...: publishes the layer in regions, and lets an organization use it.
#
# Prints the ARN of each region's version. ZIP is model-sidecar-ARCH.zip or model-sidecar-operators-ARCH.zip of a
# release. ORGANIZATION is its ID, such as o-1a2b3c4d5e, or "none" for this account alone. NAME is the layer's name, by
# default the zip's without the architecture.
set -eu

if [ $# -lt 3 ]; then
    echo "usage: publish-layer.sh ZIP ORGANIZATION REGION..." >&2
    exit 2
fi
zip=$1
organization=$2
shift 2
architecture=$(basename "$zip" .zip | sed 's/.*-//')
name=${NAME:-$(basename "$zip" "-$architecture.zip")}
case $architecture in
x86_64 | arm64) ;;
*)
    echo "cannot publish $zip: its name does not end in -x86_64.zip or -arm64.zip" >&2
    exit 2
    ;;
esac
# layer/build/runtimes.py writes this list.
runtimes="provided.al2023 python3.12 python3.13 python3.14 nodejs22.x nodejs24.x dotnet10 java8.al2023 java11.al2023
    java17.al2023 java21 java25 ruby3.3 ruby3.4 ruby4.0"
for region; do
    arn=$(aws lambda publish-layer-version --region "$region" --layer-name "$name" --zip-file "fileb://$zip" \
        --compatible-architectures "$architecture" --compatible-runtimes $runtimes --license-info Apache-2.0 \
        --query LayerVersionArn --output text)
    if [ "$organization" != none ]; then
        aws lambda add-layer-version-permission --region "$region" --layer-name "$name" \
            --version-number "${arn##*:}" --statement-id organization --action lambda:GetLayerVersion \
            --principal '*' --organization-id "$organization" >/dev/null
    fi
    echo "$arn"
done
