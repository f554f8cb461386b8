#!/bin/sh
# debian.sh FOLDER SUITE PACKAGE[:ARCH] VERSION SHA256: unpacks a package of Debian into FOLDER.
#
# APT downloads it with a configuration of its own, and verifies Debian's signature. Nothing is installed, and the
# machine's configuration stays as it is. FOLDER appears complete or not at all. If it already contains this package,
# nothing is downloaded.
set -eu

folder=$1 suite=$2 package=$3 version=$4 digest=$5
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

if [ "$(cat "$folder/.pinned" 2>/dev/null)" = "$digest" ]; then
    exit 0
fi
if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null || [ ! -f "$keyring" ]; then
    echo "cannot fetch Debian's $package: needs apt-get, dpkg-deb and $keyring" >&2
    exit 1
fi
echo "fetching $package $version from Debian's $suite into $folder" >&2

mkdir -p "$(dirname "$folder")"
scratch=$(cd "$(dirname "$folder")" && pwd)/.debian.$$
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch/lists/partial" "$scratch/archives/partial" "$scratch/fresh"
: >"$scratch/status"
echo "deb [signed-by=$keyring] $mirror $suite main" >"$scratch/sources.list"
cat >"$scratch/apt.conf" <<END
Dir::Etc::sourcelist "$scratch/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State::lists "$scratch/lists";
Dir::State::status "$scratch/status";
Dir::Cache "$scratch";
APT::Architectures { "amd64"; "arm64"; };
APT::Sandbox::User "root";
Acquire::Languages "none";
END
if ! (
    cd "$scratch"
    export APT_CONFIG="$scratch/apt.conf"
    apt-get update -qq && apt-get download -qq "$package=$version"
) >&2; then
    echo "cannot fetch $package $version: Debian's $suite has it no longer, or $mirror cannot be reached; DEBIAN_MIRROR names another mirror" >&2
    exit 1
fi
if ! echo "$digest  $(ls "$scratch"/*.deb)" | sha256sum --check --quiet >&2; then
    echo "cannot use $package $version: its SHA-256 is not $digest" >&2
    exit 1
fi
dpkg-deb --extract "$scratch"/*.deb "$scratch/fresh"
echo "$digest" >"$scratch/fresh/.pinned"
rm -rf "$folder"
mv "$scratch/fresh" "$folder"
