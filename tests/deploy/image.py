"""Resolves the COPY lines of layer/deploy/Dockerfile, and compares the images' files with the release's zips.

    image.py RELEASE

Docker is not needed: the instructions that the Dockerfile uses are resolved here, and any other one is an error. The
image with a model then runs in the lab, with its files and variables, and answers as scikit-learn does. Files of AWS's
base image are not regarded, and neither is its entry point.
"""

import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile
import zipfile

import run

DOCKERFILE = run.ROOT / "layer/deploy/Dockerfile"
CONTEXT = run.ROOT / "layer/build/image.py"
# Docker's and Lambda's names.
ARCHITECTURES = {"amd64": "x86_64", "arm64": "arm64"}


class Image:
    """A stage of a Dockerfile: files by path, variables and labels."""

    def __init__(self, base=None):
        self.files = dict(base.files) if base else {}
        self.variables = dict(base.variables) if base else {}
        self.labels = dict(base.labels) if base else {}


def files_below(folder):
    """Contents and modes by the path below a folder."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mode & 0o777) for path in paths}


def copied(source, target, files):
    """Files of a COPY by their new paths: a folder's content, or one file."""
    if source.endswith("/"):
        found = {target + path.removeprefix(source): file for path, file in files.items() if path.startswith(source)}
    else:
        name = target + pathlib.PurePosixPath(source).name if target.endswith("/") else target
        found = {name: files[source]} if source in files else {}
    if not found:
        sys.exit(f"COPY {source} {target}: the source does not exist")
    return found


def build(context, platform_arguments):
    """Stages of the Dockerfile by name."""
    text = DOCKERFILE.read_text(encoding="utf-8")
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")]
    files, stages, image, arguments = files_below(context), {}, None, {}
    for line in lines:
        instruction, rest = line.split(maxsplit=1)
        for name, value in arguments.items():
            rest = rest.replace(f"${{{name}}}", value)
        words = shlex.split(rest)
        if instruction == "FROM":
            base, _, name = words
            image = stages[name] = Image(stages.get(base))
            arguments = {}
        elif instruction == "ARG":
            name, _, default = words[0].partition("=")
            arguments[name] = platform_arguments.get(name, default)
        elif instruction == "COPY" and words[0].startswith("--from="):
            option, source, target = words
            image.files |= copied(source, target, stages[option.removeprefix("--from=")].files)
        elif instruction == "COPY":
            image.files |= copied(*words, files)
        elif instruction in ("ENV", "LABEL"):
            into = image.variables if instruction == "ENV" else image.labels
            into |= dict(word.split("=", 1) for word in words)
        elif instruction != "CMD":
            sys.exit(f"{DOCKERFILE}: unknown instruction {line}")
    return stages


def entries(path, root=""):
    """Contents and modes of a zip's entries by their paths below a folder."""
    with zipfile.ZipFile(path) as archive:
        return {root + each.filename: (archive.read(each), each.external_attr >> 16 & 0o777) for each in archive.infolist()}


def difference(given, expected):
    """Paths that only one side has, or whose content or mode differs."""
    return sorted(path for path in given.keys() | expected.keys() if given.get(path) != expected.get(path))


def write(files, root, folder):
    """Writes the files below an image's folder into a folder."""
    for path, (content, mode) in files.items():
        if path.startswith(root):
            written = folder / path.removeprefix(root)
            written.parent.mkdir(parents=True, exist_ok=True)
            written.write_bytes(content)
            written.chmod(mode)


def main():
    release = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory(prefix="image-test-") as scratch:
        folder = pathlib.Path(scratch)
        context = folder / "context"
        context.mkdir()
        shutil.copy(run.ROOT / "tests/models/wine-v1.onnx", context / "model.onnx")
        subprocess.run([sys.executable, CONTEXT, release, context], check=True)
        built = [name for name in ARCHITECTURES if (context / name).is_dir()]
        for architecture in built:
            stages = build(context, {"TARGETARCH": architecture})
            zipped = ARCHITECTURES[architecture]
            layer = entries(release / f"model-sidecar-{zipped}.zip", "/opt/")
            handler = entries(release / f"model-handler-{zipped}.zip")
            licences = {f"/var/task/{path}": file for path, file in handler.items() if path.startswith("licenses/")}
            function = layer | licences | {"/var/runtime/bootstrap": handler["bootstrap"]}
            run.check(f"{architecture}: layer", difference(stages["layer"].files, layer), [])
            run.check(f"{architecture}: function", difference(stages["function"].files, function), [])
            model = files_below(context)["model.onnx"]
            function["/opt/models/model.onnx"] = model
            run.check(f"{architecture}: function with a model", difference(stages["model"].files, function), [])
            run.check("SnapStart", stages["model"].labels, {"com.amazonaws.lambda.feature.snapstart": "Allow"})
            if zipped == run.ARCHITECTURE:
                write(stages["model"].files, "/opt/", folder / "layer")
                write(stages["model"].files, "/var/runtime/", folder / "function")
                configuration = {"Environment": {"Variables": stages["model"].variables}, "MemorySize": 512, "Timeout": 30}
                with run.lab(folder, configuration) as url:
                    run.answers(url, "v1")


if __name__ == "__main__":
    main()
