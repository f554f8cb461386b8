"""Unpacks the artefacts of a release, and makes their programs use the libraries in a folder.

    unpack.py RELEASE FOLDER ARCH

FOLDER/layer and FOLDER/function become the contents of the zips, with their modes. The libraries are those of FOLDER/libc,
FOLDER/libgcc and FOLDER/libstdc++. The lab executes a script in place of each program, which executes the loader of these
libraries with the program. For arm64 it executes qemu, which FOLDER/qemu contains.
"""

import pathlib
import shutil
import sys
import zipfile

PLACE = "/opt/emulator"
# For each architecture, the name of its libraries' folder, and the loader that every program names.
ARCHITECTURES = {"x86_64": ("x86_64-linux-gnu", "ld-linux-x86-64.so.2"), "arm64": ("aarch64-linux-gnu", "ld-linux-aarch64.so.1")}
QEMU = "qemu-aarch64"


def main() -> None:
    release, folder, arch = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
    layer = unpack(release / f"model-sidecar-{arch}.zip", folder / "layer")
    merge(release / f"model-sidecar-operators-{arch}.zip", layer)
    function = unpack(release / f"model-handler-{arch}.zip", folder / "function")

    libraries, loader = ARCHITECTURES[arch]
    emulator = layer / "emulator"
    root = emulator / "sysroot/lib" / libraries
    root.mkdir(parents=True)
    for package in ("libc", "libgcc", "libstdc++"):
        for place in ("lib", "usr/lib"):
            for path in (folder / package / place / libraries).glob("*.so*"):
                shutil.copy(path, root)
    if arch == "arm64":
        shutil.copy(folder / "qemu/usr/bin" / QEMU, emulator)
        # Place of the loader that every program names.
        shutil.copy(root / loader, emulator / "sysroot/lib")
    else:
        # A process has the loader's path. The sidecar finds ONNX Runtime from it, as from `extensions`.
        shutil.copy(root / loader, emulator)

    # Below a folder of its own, from which the sidecar finds ONNX Runtime as from `extensions`.
    start(arch, layer / "extensions/model-sidecar", layer / "programs/model-sidecar", "/opt/extensions", "/opt/programs")
    start(arch, function / "bootstrap", function / "programs/bootstrap", "/var/task", "/var/task/programs")


def unpack(archive: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Unpacks a zip into a new folder."""
    shutil.rmtree(folder, ignore_errors=True)
    merge(archive, folder)
    return folder


def merge(archive: pathlib.Path, folder: pathlib.Path) -> None:
    """Unpacks a zip with its modes, as Lambda does with each layer."""
    with zipfile.ZipFile(archive) as content:
        for entry in content.infolist():
            path = pathlib.Path(content.extract(entry, folder))
            path.chmod(entry.external_attr >> 16 & 0o777)


def start(arch: str, path: pathlib.Path, moved: pathlib.Path, place: str, moved_place: str) -> None:
    """Moves a program, and puts a script in its place."""
    libraries, loader = ARCHITECTURES[arch]
    if arch == "arm64":
        # ONNX Runtime detects the CPU's features by its model, as on Graviton 2.
        command = f"{PLACE}/{QEMU} -cpu neoverse-n1 -L {PLACE}/sysroot -0 {place}/{path.name}"
    else:
        command = f"{PLACE}/{loader} --inhibit-cache --library-path {PLACE}/sysroot/lib/{libraries}"
    moved.parent.mkdir()
    path.rename(moved)
    path.write_text(f'#!/bin/sh\nexec {command} {moved_place}/{moved.name} "$@"\n')
    path.chmod(0o755)


if __name__ == "__main__":
    main()
