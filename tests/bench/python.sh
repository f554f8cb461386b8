# Shared setup of the benches with Python contenders. Source it from the root with `out` set to the bench's folder in
# target/bench.
python=${PYTHON:-python3}
bench=bench-$(basename "$out")

fail() {
    echo "$bench: $*" >&2
    exit 1
}

"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' ||
    fail "$python is $("$python" --version 2>&1 || true); onnxruntime 1.28.0 has wheels for Python 3.11 to 3.14"

# Installs into a new folder, then replaces the old one by a rename, so that the folder is always complete.
install() { # install FOLDER REQUIREMENTS [OPTION OF PIP …]
    into=$out/$1
    requirements=$2
    shift 2
    stamp=$("$python" --version; cat "$requirements")
    [ "$(cat "$into.stamp" 2>/dev/null)" = "$stamp" ] && return 0
    echo "$bench: installing $requirements"
    rm -rf "$into" "$into.new"
    PIP_ROOT_USER_ACTION=ignore "$python" -m pip install --quiet --disable-pip-version-check --no-input \
        --no-deps --target "$into.new" -r "$requirements" "$@" || return 1
    mv "$into.new" "$into"
    echo "$stamp" >"$into.stamp"
}

needed() { # needed FOLDER REQUIREMENTS [OPTION OF PIP …]
    install "$@" || fail "pip could not install $2 for $("$python" --version) on $(uname -m)"
}

# The tutorials' function with its packages, laid out as by `pip install --target` in a deployment package. Links avoid
# copies.
lay_out_tutorial() {
    rm -rf "$out/python"
    mkdir "$out/python"
    cp -Rl "$out/packages/." "$out/python"
    cp "$tutorial/bootstrap" "$tutorial/handler.py" "$out/python"
}
