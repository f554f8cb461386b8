"""Unpacks the zips of a release into the context of layer/deploy/Dockerfile.

    image.py RELEASE CONTEXT

CONTEXT gets a folder for each architecture of the release, with Docker's name for it. The folder has the subfolders
`layer` and `handler`. Earlier ones are replaced. Other files of CONTEXT, such as models, stay.
"""

import pathlib
import shutil
import sys
import zipfile

# Lambda's and Docker's names.
ARCHITECTURES = {"x86_64": "amd64", "arm64": "arm64"}
PARTS = {"layer": "model-sidecar", "handler": "model-handler"}


def main() -> None:
    release, context = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    unpacked = []
    for lambdas, dockers in ARCHITECTURES.items():
        shutil.rmtree(context / dockers, ignore_errors=True)
        zips = {part: release / f"{name}-{lambdas}.zip" for part, name in PARTS.items()}
        if all(path.is_file() for path in zips.values()):
            for part, path in zips.items():
                unpack(path, context / dockers / part)
            unpacked.append(str(context / dockers))
    if not unpacked:
        sys.exit(f"cannot make the context of an image: {release} has no zips; run `make release`")
    print(f"unpacked {release} in {' and '.join(unpacked)}")


def unpack(path: pathlib.Path, folder: pathlib.Path) -> None:
    """Extracts a zip with the modes of its entries, which the image has as well."""
    folder.mkdir(parents=True)
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            extracted = pathlib.Path(archive.extract(entry, folder))
            extracted.chmod(entry.external_attr >> 16 & 0o777)
    for each in [folder, *folder.rglob("*")]:
        if each.is_dir():
            # Lambda runs images as another user than the builder's.
            each.chmod(0o755)


if __name__ == "__main__":
    main()
