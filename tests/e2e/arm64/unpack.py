"""Unpacks the arm64 artefacts of a release, and makes an emulator start their programs.

    unpack.py RELEASE FOLDER

FOLDER/layer and FOLDER/function become the contents of the zips, with their modes. The lab executes a script in place of
each program, as it would execute the program on Graviton. The script executes qemu, which FOLDER/qemu contains, with
the program and with the libraries in FOLDER/libc, FOLDER/libgcc and FOLDER/libstdc++.
"""

import pathlib
import shutil
import sys
import zipfile

LIBRARIES = "usr/lib/aarch64-linux-gnu"
# ONNX Runtime detects the CPU's features by its model, as on Graviton 2.
EMULATOR = "/opt/emulator/qemu-aarch64 -cpu neoverse-n1 -L /opt/emulator/root"


def main() -> None:
    release, folder = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    layer = unpack(release / "model-sidecar-arm64.zip", folder / "layer")
    merge(release / "model-sidecar-operators-arm64.zip", layer)
    function = unpack(release / "model-handler-arm64.zip", folder / "function")

    emulator = layer / "emulator"
    emulator.mkdir()
    shutil.copy(folder / "qemu/usr/bin/qemu-aarch64", emulator)
    root = emulator / "root/lib/aarch64-linux-gnu"
    root.mkdir(parents=True)
    for package in ("libc", "libgcc", "libstdc++"):
        for place in ("lib/aarch64-linux-gnu", LIBRARIES):
            for path in (folder / package / place).glob("*.so*"):
                shutil.copy(path, root)
    # Place of the loader that every program names.
    shutil.copy(root / "ld-linux-aarch64.so.1", emulator / "root/lib")

    # Below a folder of its own, from which the sidecar finds ONNX Runtime as from `extensions`.
    emulate(layer / "extensions/model-sidecar", layer / "programs/model-sidecar", "/opt/extensions", "/opt/programs")
    emulate(function / "bootstrap", function / "programs/bootstrap", "/var/task", "/var/task/programs")


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


def emulate(path: pathlib.Path, moved: pathlib.Path, place: str, moved_place: str) -> None:
    """Moves a program, and puts a script in its place."""
    moved.parent.mkdir()
    path.rename(moved)
    path.write_text(f'#!/bin/sh\nexec {EMULATOR} -0 {place}/{path.name} {moved_place}/{moved.name} "$@"\n')
    path.chmod(0o755)


if __name__ == "__main__":
    main()
