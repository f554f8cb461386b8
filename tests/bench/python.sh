# What the benches beside Python have in common, to be sourced from the root with `out` set to the bench's folder in
# target/bench.
python=${PYTHON:-python3}
bench=bench-$(basename "$out")

fail() {
    echo "$bench: $*" >&2
    exit 1
}

"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' ||
    fail "$python is $("$python" --version 2>&1 || true); onnxruntime 1.28.0 has wheels for Python 3.11 to 3.14"

# Into a folder beside the old one, which a rename replaces: what is there is whole.
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

# The tutorials' function beside its packages, as `pip install --target` puts them into a deployment package. Links take
# no room, and no time on each run.
lay_out_tutorial() {
    rm -rf "$out/python"
    mkdir "$out/python"
    cp -Rl "$out/packages/." "$out/python"
    cp "$tutorial/bootstrap" "$tutorial/handler.py" "$out/python"
}
