#!/bin/sh
# Validates and tests the Terraform module, validates its examples, and applies it on an emulator of AWS. The provider
# comes from /opt/tf-plugins where that folder exists, else from Terraform's registry.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root/layer/deploy/terraform"
if ! terraform version >/dev/null 2>&1; then
    echo "terraform is missing: install 1.9 or newer, see https://developer.hashicorp.com/terraform/install" >&2
    exit 1
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch" .terraform.lock.hcl examples/*/.terraform.lock.hcl' EXIT
if [ -d /opt/tf-plugins ]; then
    printf 'provider_installation {\n  filesystem_mirror {\n    path = "/opt/tf-plugins"\n  }\n}\n' >"$scratch/rc"
    export TF_CLI_CONFIG_FILE="$scratch/rc"
fi
terraform fmt -check -recursive
for folder in . examples/*; do
    export TF_DATA_DIR="$scratch/data/$folder"
    mkdir -p "$TF_DATA_DIR"
    terraform -chdir="$folder" init -input=false >/dev/null
    terraform -chdir="$folder" validate
done
export TF_DATA_DIR="$scratch/data/."
terraform test
unset TF_DATA_DIR
"$root/target/moto/bin/python" "$root/tests/deploy/terraform.py" "$root/dist/release"
