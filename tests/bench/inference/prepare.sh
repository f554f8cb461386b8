#!/bin/sh
# Leaves in target/bench/inference what `make bench-inference` measures with: the models with what they are asked and
# must answer (models), the tutorials' Python function with its packages (python), and the packages of Python's servers
# (fastapi, bentoml). BentoML may be missing: it has more dependencies than every machine can have.
#
# Does nothing for a part that was made by these same scripts. PYTHON names the interpreter.
set -eu
cd "$(dirname "$0")/../../.."

here=tests/bench/inference
tutorial=tests/functions/tutorial
tools=tests/bench/coldstart/requirements.txt
out=target/bench/inference
python=${PYTHON:-python3}

fail() {
    echo "bench-inference: $*" >&2
    exit 1
}

"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' ||
    fail "$python is $("$python" --version 2>&1 || true); onnxruntime 1.28.0 has wheels for Python 3.11 to 3.14"

# Into a folder beside the old one, which a rename replaces: what is there is whole.
install() { # install FOLDER REQUIREMENTS
    stamp=$("$python" --version; cat "$2")
    [ "$(cat "$out/$1.stamp" 2>/dev/null)" = "$stamp" ] && return 0
    echo "bench-inference: installing $2"
    rm -rf "$out/$1" "$out/$1.new"
    PIP_ROOT_USER_ACTION=ignore "$python" -m pip install --quiet --disable-pip-version-check --no-input \
        --no-deps --target "$out/$1.new" -r "$2" || return 1
    mv "$out/$1.new" "$out/$1"
    echo "$stamp" >"$out/$1.stamp"
}

needed() { # needed FOLDER REQUIREMENTS
    install "$1" "$2" || fail "pip could not install $2 for $("$python" --version) on $(uname -m)"
}

mkdir -p "$out"
needed packages "$tutorial/requirements.txt"
needed tools "$tools"
needed fastapi "$here/fastapi.txt"
install bentoml "$here/bentoml.txt" || echo "bench-inference: BentoML cannot be installed here, and is left out"

rm -rf "$out/python"
mkdir "$out/python"
# Links take no room, and no time on each run.
cp -Rl "$out/packages/." "$out/python"
cp "$tutorial/bootstrap" "$tutorial/handler.py" "$out/python"

stamp=$(cat "$here/models.py" "$here/prepare.sh" "$tools" "$tutorial/requirements.txt" tests/models/wine.json tests/models/wine-v1.onnx | sha256sum)
if [ "$(cat "$out/models.stamp" 2>/dev/null)" != "$stamp" ]; then
    echo "bench-inference: making the models"
    rm -rf "$out/models" "$out/models.new"
    mkdir "$out/models.new"
    PYTHONPATH="$out/packages:$out/tools" "$python" "$here/models.py" "$out/models.new"
    mv "$out/models.new" "$out/models"
    echo "$stamp" >"$out/models.stamp"
fi
