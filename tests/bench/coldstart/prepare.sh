#!/bin/sh
# Leaves in target/bench/coldstart what `make bench-coldstart` measures with: the tutorials' Python
# function with its packages (python), and the models with their right answers (models).
#
# Does nothing for a part that was made by these same scripts. PYTHON names the interpreter.
set -eu
cd "$(dirname "$0")/../../.."

here=tests/bench/coldstart
tutorial=tests/functions/tutorial
out=target/bench/coldstart
python=${PYTHON:-python3}

fail() {
    echo "bench-coldstart: $*" >&2
    exit 1
}

"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' ||
    fail "$python is $("$python" --version 2>&1 || true); onnxruntime 1.28.0 has wheels for Python 3.11 to 3.14"

# Into a folder beside the old one, which a rename replaces: what is there is whole.
install() { # install FOLDER REQUIREMENTS
    stamp=$("$python" --version; cat "$2")
    [ "$(cat "$out/$1.stamp" 2>/dev/null)" = "$stamp" ] && return 0
    echo "bench-coldstart: installing $2"
    rm -rf "$out/$1" "$out/$1.new"
    PIP_ROOT_USER_ACTION=ignore "$python" -m pip install --quiet --disable-pip-version-check --no-input \
        --only-binary=:all: --no-deps --target "$out/$1.new" -r "$2" ||
        fail "pip could not install $2 for $("$python" --version) on $(uname -m)"
    mv "$out/$1.new" "$out/$1"
    echo "$stamp" >"$out/$1.stamp"
}

mkdir -p "$out"
# As `pip install --target` puts packages into a deployment package, compiled modules included.
install packages "$tutorial/requirements.txt"
install tools "$here/requirements.txt"

rm -rf "$out/python"
mkdir "$out/python"
# Links take no room, and no time on each run.
cp -Rl "$out/packages/." "$out/python"
cp "$tutorial/bootstrap" "$tutorial/handler.py" "$out/python"

stamp=$(cat "$here/models.py" "$here/prepare.sh" "$here/requirements.txt" "$tutorial/requirements.txt" tests/models/wine.json tests/models/wine-v1.onnx | sha256sum)
if [ "$(cat "$out/models.stamp" 2>/dev/null)" != "$stamp" ]; then
    echo "bench-coldstart: making the models"
    rm -rf "$out/models" "$out/models.new"
    mkdir "$out/models.new"
    PYTHONPATH="$out/packages:$out/tools" "$python" "$here/models.py" "$out/models.new"
    cp tests/models/wine-v1.onnx "$out/models.new"
    mkdir "$out/models.new/optimised"
    for model in tabular-100mb tabular-250mb; do
        target/debug/modelctl optimize "$out/models.new/$model.onnx" -o "$out/models.new/optimised"
    done
    mv "$out/models.new" "$out/models"
    echo "$stamp" >"$out/models.stamp"
fi
