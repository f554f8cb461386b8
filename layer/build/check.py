"""Checks a staged layer and handler, a staged layer of operators, or the programs of a wheel, before a release.

    check.py --arch ARCH --glibc FLOOR LAYER HANDLER
    check.py --arch ARCH --glibc FLOOR --operators LAYER
    check.py --arch ARCH --glibc FLOOR --wheel WHEEL

Every binary must:
- run on a system with glibc FLOOR (Microsoft's libraries have a higher floor of their own),
- need only libraries that Lambda provides (and every Linux distribution with glibc),
- be below its size limit,
- be executable where Lambda executes it,
- if it is ONNX Runtime, be the library whose pages the sidecar reads ahead,
- contain no path of the build machine.

Each fault is printed with its file; any fault makes the exit code 1.
"""

import argparse
import os
import pathlib
import re
import sys
import tempfile
import zipfile

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection, GNUVerSymSection

MB = 1_000_000
# Lambda's limit for all layers and the function, unzipped.
UNZIPPED_LIMIT = 250 * 1024 * 1024
LIBRARY = "model-sidecar/lib/libonnxruntime.so.1.28.0"
OPERATORS = "libortextensions.so"
# Programs of the wheel, with the limits of their sizes.
PROGRAMS = {"model-sidecar": 10 * MB, "modelctl": 13 * MB, "lab": 4 * MB}
# Programs that look for the files of a checkout by its path on the build machine.
WITH_BUILD_PATHS = {"modelctl", "lab"}
MACHINES = {"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64"}
# Pages of the library that the sidecar reads ahead.
RECORDS = {arch: pathlib.Path("extension/src/engine/read_ahead") / f"{arch}.txt" for arch in MACHINES}

# Libraries of glibc itself, on both architectures.
LIBC = {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1"}
LOADERS = {"ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
# Rust unwinds through libgcc_s, which every Lambda runtime has.
OURS = LIBC | LOADERS | {"libgcc_s.so.1"}


class Rules:
    """Limits and allowed libraries of a file."""

    def __init__(self, limit: int, floors: dict[str, str], libraries: set[str], build_paths: bool) -> None:
        self.limit = limit
        self.floors = floors
        self.libraries = libraries
        self.build_paths = build_paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", choices=MACHINES, required=True)
    parser.add_argument("--glibc", required=True, help="the newest glibc version that our binaries may need")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--operators", action="store_true", help="the folder is a layer of operators")
    kind.add_argument("--wheel", action="store_true", help="the path is a wheel")
    parser.add_argument("paths", type=pathlib.Path, nargs="+", metavar="PATH")
    args = parser.parse_args()
    if len(args.paths) != (1 if args.operators or args.wheel else 2):
        parser.error("expected LAYER HANDLER, --operators LAYER, or --wheel WHEEL")
    if args.wheel:
        with tempfile.TemporaryDirectory(prefix="check-") as scratch:
            faults = check_wheel(args.paths[0], pathlib.Path(scratch), args.glibc, args.arch)
    else:
        faults = check_folders(args)
    for fault in faults:
        print(f"fault: {fault}", file=sys.stderr)
    sys.exit(1 if faults else 0)


def our_floors(glibc: str) -> dict[str, str]:
    """Returns the newest versions that our binaries may need."""
    # libgcc has had these versions since 2010, and on arm64 since its beginning.
    return {"GLIBC": glibc, "GCC": "4.5.0"}


def check_wheel(wheel: pathlib.Path, scratch: pathlib.Path, glibc: str, arch: str) -> list[str]:
    """Returns the faults of the programs in a wheel."""
    faults = []
    with zipfile.ZipFile(wheel) as archive:
        for program, limit in PROGRAMS.items():
            entry = archive.getinfo(f"model_sidecar/bin/{program}")
            path = pathlib.Path(archive.extract(entry, scratch))
            path.chmod(entry.external_attr >> 16 & 0o777)
            rules = Rules(limit, our_floors(glibc), OURS, program not in WITH_BUILD_PATHS)
            faults += [f"{wheel.name}: {program}: {fault}" for fault in check(path, rules, arch)]
    return faults


def check_folders(args: argparse.Namespace) -> list[str]:
    """Returns the faults of a layer and a handler, or of a layer of operators."""
    layer, handler = args.paths[0], args.paths[-1]
    ours = our_floors(args.glibc)
    # Microsoft's libraries as published: glibc 2.27 and the libstdc++ of gcc 7, both older than
    # Amazon Linux 2023. On Amazon Linux 2 it misses three functions of libm.
    theirs = {"GLIBC": "2.27", "GCC": "4.5.0", "GLIBCXX": "3.4.24", "CXXABI": "1.3.11"}
    if args.operators:
        folder = layer / "model-sidecar/operators"
        names = {path.name for path in folder.glob("*.so")} | {OPERATORS}
        rules = Rules(8 * MB, theirs, OURS | {"libstdc++.so.6"} | names, False)
        files = {folder / name: rules for name in sorted(names)}
    else:
        files = {
            layer / "extensions/model-sidecar": Rules(10 * MB, ours, OURS, True),
            layer / LIBRARY: Rules(30 * MB, theirs, OURS | {"libstdc++.so.6"}, False),
            handler / "bootstrap": Rules(2 * MB + 200_000, ours, OURS, True),
        }

    faults = []
    for path, rules in files.items():
        if path.is_file():
            faults += [f"{path}: {fault}" for fault in check(path, rules, args.arch)]
        else:
            faults.append(f"{path}: missing")

    library = layer / LIBRARY
    if not args.operators and library.is_file() and library.stat().st_size != int(RECORDS[args.arch].read_text().split()[0]):
        faults.append(f"{library}: {RECORDS[args.arch]} is the record of another library; run make read-ahead ARCH={args.arch}")

    total = sum(path.stat().st_size for root in args.paths for path in root.rglob("*") if path.is_file())
    print(f"{total:>12,} bytes in total, unzipped")
    if total > UNZIPPED_LIMIT:
        faults.append(f"{' and '.join(map(str, args.paths))}: {total:,} bytes unzipped, Lambda allows {UNZIPPED_LIMIT:,}")
    for path in (layer / "extensions").glob("*"):
        # Lambda starts every file in this folder, and fails the function if it cannot.
        if path.name != "model-sidecar":
            faults.append(f"{path}: Lambda would start this as an extension")
    return faults


def check(path: pathlib.Path, rules: Rules, arch: str) -> list[str]:
    """Returns the faults of one binary and prints its size and versions."""
    size = path.stat().st_size
    faults = []
    if size > rules.limit:
        faults.append(f"{size:,} bytes, at most {rules.limit:,} are allowed")
    if not os.access(path, os.X_OK):
        faults.append("not executable")

    with path.open("rb") as file:
        elf = ELFFile(file)
        if elf["e_machine"] != MACHINES[arch]:
            return [*faults, f"built for {elf['e_machine']}, not for {MACHINES[arch]}"]
        libraries = needed_libraries(elf)
        versions = needed_versions(elf)

    faults += [f"needs the library {name}" for name in sorted(libraries - rules.libraries)]
    highest = {}
    for (family, version), symbols in sorted(versions.items(), key=lambda item: number(item[0][1])):
        highest[family] = version
        floor = rules.floors.get(family)
        if floor is None or number(version) > number(floor):
            allowed = f"at most {family}_{floor} is allowed" if floor else f"no {family} version is allowed"
            faults.append(f"needs {family}_{version} ({allowed}) for {', '.join(sorted(symbols))}")
    if rules.build_paths:
        found = sorted(build_paths(path.read_bytes()))
        if found:
            faults.append(f"contains {len(found)} paths of the build machine, such as {found[0]}")

    needs = ", ".join(f"{family} {version}" for family, version in sorted(highest.items()))
    print(f"{size:>12,} bytes  {path}  needs {needs or 'no versions'}")
    return faults


def needed_libraries(elf: ELFFile) -> set[str]:
    return {
        tag.needed
        for section in elf.iter_sections()
        if isinstance(section, DynamicSection)
        for tag in section.iter_tags("DT_NEEDED")
    }


def needed_versions(elf: ELFFile) -> dict[tuple[str, str], set[str]]:
    """Returns each required version, such as (`GLIBC`, `2.17`), with the symbols that need it."""
    sections = list(elf.iter_sections())
    names = {}
    versions: dict[tuple[str, str], set[str]] = {}
    for section in sections:
        if isinstance(section, GNUVerNeedSection):
            for _, wanted in section.iter_versions():
                for version in wanted:
                    family, _, figure = version.name.rpartition("_")
                    names[version["vna_other"]] = (family, figure)
                    versions.setdefault((family, figure), set())
    symbols = elf.get_section_by_name(".dynsym")
    for section in sections:
        if isinstance(section, GNUVerSymSection):
            for index, entry in enumerate(section.iter_symbols()):
                if entry["ndx"] in names:
                    versions[names[entry["ndx"]]].add(symbols.get_symbol(index).name)
    return versions


def number(version: str) -> tuple[int, ...]:
    """Returns `2.17` as a comparable tuple; a name such as `PRIVATE` is above every floor."""
    return tuple(int(part) for part in version.split(".")) if re.fullmatch(r"[0-9.]+", version) else (1 << 30,)


def build_paths(content: bytes) -> set[str]:
    """Returns absolute paths of the build machine: those of its user's and its project's directories."""
    places = {str(pathlib.Path.home()), os.getcwd(), os.environ.get("CARGO_HOME", ""), os.environ.get("RUSTUP_HOME", "")}
    found = set()
    for place in places - {"", "/"}:
        for match in re.finditer(re.escape(place.encode()) + rb"/[\w./-]*", content):
            found.add(match.group().decode())
    return found


if __name__ == "__main__":
    main()
