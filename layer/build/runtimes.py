"""Writes the runtimes that the layer supports into the files that publish it.

    python3 layer/build/runtimes.py [--check]

With --check, nothing is written; exits with 1 if a list differs.
"""

import pathlib
import re
import sys
import textwrap

DEPLOY = pathlib.Path(__file__).resolve().parents[1] / "deploy"
# Lambda's maximum for a layer.
LIMIT = 15
# Supported runtimes on Amazon Linux 2023, in November 2026. Source: AWS Lambda developer guide, "Lambda runtimes".
# Previews and deprecated runtimes, such as nodejs20.x and dotnet8, are left out. On Amazon Linux 2, ONNX Runtime does
# not load: layer/build/check.py.
RUNTIMES = (
    *("provided.al2023", "python3.12", "python3.13", "python3.14", "nodejs22.x", "nodejs24.x", "dotnet10"),
    *("java8.al2023", "java11.al2023", "java17.al2023", "java21", "java25", "ruby3.3", "ruby3.4", "ruby4.0"),
)
# Terraform's provider rejects names that it does not know. Version 5.90 knows these.
PROVIDER = {"provided.al2023", "python3.12", "python3.13", "nodejs22.x", "java21", "ruby3.3"}


def after(start, names, separator, indent):
    """Names in lines of at most 120 characters, of which the first begins with `start`."""
    first, width = " " * len(start), 119
    lines = textwrap.fill(separator.join(names), width, initial_indent=first, subsequent_indent=" " * indent, break_on_hyphens=False)
    return lines.removeprefix(first)


def strings(names):
    return [f'"{name}"' for name in names]


# For each file, the beginning of the line with its list, the character that ends the list, and the list.
LISTS = {
    "template.yaml": ("      CompatibleRuntimes: [", "]", lambda start: after(start, RUNTIMES, ", ", 8)),
    "terraform/main.tf": ("  runtimes = [", "]", lambda _: ", ".join(strings(one for one in RUNTIMES if one in PROVIDER))),
    "cdk/model-endpoint.ts": ("const RUNTIMES = [", "]", lambda start: after(start, strings(RUNTIMES), ", ", 2)),
    "publish-layer.sh": ('runtimes="', '"', lambda start: after(start, RUNTIMES, " ", 4)),
}


def main():
    if len(RUNTIMES) > LIMIT:
        sys.exit(f"{len(RUNTIMES)} runtimes; a layer lists at most {LIMIT}")
    wrong = []
    for name, (start, end, make) in LISTS.items():
        path = DEPLOY / name
        text = path.read_text(encoding="utf-8")
        written, found = re.subn(f"^{re.escape(start)}[^{end}]*", start + make(start), text, flags=re.MULTILINE)
        if found != 1:
            sys.exit(f"{path}: {found} lists of runtimes; expected one")
        if written != text:
            wrong.append(str(path))
            if "--check" not in sys.argv[1:]:
                path.write_text(written, encoding="utf-8")
    if "--check" in sys.argv[1:] and wrong:
        sys.exit(f"other runtimes in {', '.join(wrong)}; run python3 layer/build/runtimes.py")


if __name__ == "__main__":
    main()
