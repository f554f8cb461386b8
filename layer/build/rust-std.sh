#!/bin/sh
# rust-std.sh TARGET FOLDER: provides Rust's standard library for TARGET, for a build on another architecture.
#
# The pinned toolchain has it, or rustup adds it. Otherwise it is built from Debian's package of the sources, and FOLDER
# becomes a sysroot for `rustc --sysroot`: the toolchain stays as it is. Without need of FOLDER, FOLDER is removed.
set -eu

target=$1 folder=$2
# Sources of one version, the one in rust-toolchain.toml.
package=1.95.0+dfsg1-2~bpo13+1
version=${package%%+*}
digest=7b76db5b880a77f9e52975d2baa6209d2f76d2c9c2789515c3088cb960e2c83b
here=$(cd "$(dirname "$0")" && pwd)

has_std() {
    ls "$1"/libstd-*.rlib >/dev/null 2>&1
}

fail() {
    echo "cannot build for $target: $1; run \`rustup target add $target\`" >&2
    exit 1
}

if has_std "$(rustc --print target-libdir --target "$target")"; then
    rm -rf "$folder"
    exit 0
fi
if has_std "$folder/lib/rustlib/$target/lib" && [ "$(cat "$folder/.pinned")" = "$digest" ]; then
    exit 0
fi
if command -v rustup >/dev/null && rustup --quiet target add "$target"; then
    rm -rf "$folder"
    exit 0
fi

[ "$(rustc --version | cut -d ' ' -f 2)" = $version ] ||
    fail "the toolchain is not $version, which Debian's sources here are of"
sources=$(dirname "$folder")/rust-src
sh "$here/debian.sh" "$sources" trixie-backports rust-src "$package" "$digest" ||
    fail "the sources of Rust's standard library cannot be had"

echo "building Rust's standard library for $target (2 minutes)" >&2
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
library=$(cd "$sources/usr/src/rustc-$version/library" && pwd)
work=$folder/build
rm -rf "$folder/lib" "$work"
mkdir -p "$work/src" "$work/sysroot/lib/rustlib/src/rust"

# A sysroot with the sources, as cargo expects them, and a compiler that has it as its own. Cargo hashes paths relative
# to the workspace into the names of symbols: the sources are inside the workspace.
host=$(rustc --version --verbose | sed -n 's/^host: //p')
ln -s "$(rustc --print sysroot)/lib/rustlib/$host" "$work/sysroot/lib/rustlib/$host"
mv "$library" "$work/sysroot/lib/rustlib/src/rust/library"
library=$work/sysroot/lib/rustlib/src/rust/library
cat >"$work/rustc" <<END
#!/bin/sh
exec rustc --sysroot "$work/sysroot" "\$@"
END
chmod +x "$work/rustc"
echo '#![no_std]' >"$work/src/lib.rs"
cat >"$work/Cargo.toml" <<'END'
[package]
name = "sysroot"
edition = "2024"
[workspace]
END

# `-Z build-std` is a nightly feature, which RUSTC_BOOTSTRAP enables. Bitcode is needed for LTO. The paths of this
# machine would be in messages of panics.
remap="--remap-path-prefix=$library=/rustc/$version/library --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/rust/deps"
(
    cd "$work"
    CARGO_TARGET_DIR=$work/target RUSTC=$work/rustc RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Cembed-bitcode=yes $remap" \
        cargo build --quiet --release --target "$target" -Zbuild-std=std,panic_unwind,panic_abort
) >&2 || fail "its standard library cannot be built"
mkdir -p "$folder/lib/rustlib/$target/lib"
for file in "$work/target/$target"/release/deps/*.rlib; do
    case $file in
    */libsysroot-*) ;;
    *) cp "$file" "$folder/lib/rustlib/$target/lib" ;;
    esac
done
rm -rf "$work" "$sources"
echo "$digest" >"$folder/.pinned"
