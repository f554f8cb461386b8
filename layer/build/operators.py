"""Makes a library of custom operators that loads without Python.

    operators.py MODULE FOLDER COMPILER...

MODULE is the module of the PyPI package onnxruntime-extensions. It refers to Python's symbols, which it does not use when
ONNX Runtime loads it. FOLDER gets three libraries: the module, `libpython.so` which defines these symbols without an
implementation, and `libortextensions.so` which links both. COMPILER is a C compiler for the module's architecture.
The script needs nm of binutils, which reads modules of both architectures.
"""

import pathlib
import shutil
import subprocess
import sys

LIBRARY = "libortextensions.so"
PYTHON = "libpython.so"
# No build ID, paths or symbols of the build: the same inputs give the same bytes.
SHARED = ["-shared", "-fPIC", "-O2", "-s", "-Wl,--build-id=none"]


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
    python = "".join(f"char {name}[4096];\n" for name in python_symbols(module))
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


def python_symbols(module: pathlib.Path) -> list[str]:
    """Returns the undefined dynamic symbols of Python."""
    nm = subprocess.run(["nm", "-D", "--undefined-only", module], stdout=subprocess.PIPE, text=True, check=True)
    names = (line.split()[-1] for line in nm.stdout.splitlines())
    symbols = sorted(name for name in names if name.startswith(("Py", "_Py")))
    if not symbols:
        sys.exit("cannot find symbols of Python in the module")
    return symbols


if __name__ == "__main__":
    main()
