"""Makes a library of custom operators that loads without Python.

    operators.py MODULE FOLDER COMPILER...

MODULE is the module of the PyPI package onnxruntime-extensions. It refers to Python's symbols, which it does not use when
ONNX Runtime loads it. FOLDER gets three libraries: the module, `libpython.so` which defines these symbols without an
implementation, and `libortextensions.so` which links both. COMPILER is a C compiler for the module's architecture.
"""

import pathlib
import shutil
import struct
import subprocess
import sys

LIBRARY = "libortextensions.so"
PYTHON = "libpython.so"
# No build ID, paths or symbols of the build: the same inputs give the same bytes.
SHARED = ["-shared", "-fPIC", "-O2", "-s", "-Wl,--build-id=none"]
SHT_DYNSYM = 11
SHN_UNDEF = 0


def main() -> None:
    module, folder, compiler = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3:]
    made = folder / LIBRARY
    sources = (module, pathlib.Path(__file__))
    if made.is_file() and all(made.stat().st_mtime >= source.stat().st_mtime for source in sources):
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(module, folder)
    (folder / module.name).chmod(0o755)

    # Some symbols are objects, whose fields a constructor of the module copies.
    python = "".join(f"char {name}[4096];\n" for name in python_symbols(module.read_bytes()))
    build(compiler, folder, python, ["-o", PYTHON, f"-Wl,-soname,{PYTHON}"])
    linked = ["-Wl,--no-as-needed", "-L.", f"-l:{module.name}", f"-l:{PYTHON}", "-Wl,-rpath,$ORIGIN"]
    build(compiler, folder, "", ["-o", LIBRARY + ".new", f"-Wl,-soname,{LIBRARY}", *linked])
    (folder / (LIBRARY + ".new")).rename(made)


def build(compiler: list[str], folder: pathlib.Path, source: str, arguments: list[str]) -> None:
    """Compiles and links a source in FOLDER, which does not stay there."""
    file = folder / "source.c"
    file.write_text(source)
    subprocess.run([*compiler, *SHARED, file.name, *arguments], cwd=folder, check=True)
    file.unlink()


def python_symbols(elf: bytes) -> list[str]:
    """Returns the undefined dynamic symbols of Python, read from a 64-bit little-endian ELF file."""
    if elf[:6] != b"\x7fELF\x02\x01":
        sys.exit("cannot read the module: it is no 64-bit little-endian ELF file")
    (table,) = struct.unpack_from("<Q", elf, 0x28)
    size, count = struct.unpack_from("<HH", elf, 0x3A)
    # Each header: name, type, flags, address, offset, size, link.
    headers = [struct.unpack_from("<IIQQQQI", elf, table + size * index) for index in range(count)]
    (symbols,) = (header for header in headers if header[1] == SHT_DYNSYM)
    strings = headers[symbols[6]][4]
    names = []
    for place in range(symbols[4], symbols[4] + symbols[5], 24):
        name, _, _, section = struct.unpack_from("<IBBH", elf, place)
        text = elf[strings + name : elf.index(b"\0", strings + name)].decode()
        if section == SHN_UNDEF and text.startswith(("Py", "_Py")):
            names.append(text)
    if not names:
        sys.exit("cannot find symbols of Python in the module")
    return sorted(names)


if __name__ == "__main__":
    main()
