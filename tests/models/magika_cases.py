"""Takes the network out of the magika package and writes what it says about real files.

magika tells a file's type from its first and last bytes. The features come from the package's own
code and the label is the one it reports; the outputs are those of ONNX Runtime in Python. Run by
fixtures.sh: `magika_cases.py FOLDER` leaves model.onnx and cases.json in FOLDER. (The script is
not called magika.py, since Python would then import it in place of the package.)
"""

import csv
import gzip
import io
import json
import marshal
import pickle
import shutil
import sys
import sysconfig
import zipfile
from pathlib import Path

import magika
import numpy as np
import onnxruntime
from magika.types import Seekable

ROOT = Path(__file__).resolve().parents[2]
STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))
MIN_CASES = 12

OF_THE_PROJECT = [
    "Cargo.toml",
    "Cargo.lock",
    "LICENSE",
    "extension/src/lib.rs",
    "tests/lab/lib.rs",
    "tests/models/README.md",
    "tests/models/fixtures.sh",
    "tests/models/magika_cases.py",
    "tests/models/wine.json",
    "tests/models/wine-v2.onnx",
]
OF_THE_STANDARD_LIBRARY = ["json/decoder.py", "LICENSE.txt", "idlelib/Icons/idle_48.png"]


def files():
    """Name -> bytes, of files that are there and of files made here."""
    found = {}
    for name in OF_THE_PROJECT:
        found[name] = (ROOT / name).read_bytes()
    for name in OF_THE_STANDARD_LIBRARY:
        # Distributions leave parts of the standard library out; what is there is enough.
        if (STANDARD_LIBRARY / name).is_file():
            found["python/" + name] = (STANDARD_LIBRARY / name).read_bytes()
    found["python/executable"] = Path(sys.executable).resolve().read_bytes()

    wine = json.loads(found["tests/models/wine.json"])
    table = io.StringIO()
    csv.writer(table).writerows([wine["features"], *wine["rows"]])
    found["made/wine.csv"] = table.getvalue().encode()
    found["made/wine.csv.gz"] = gzip.compress(found["made/wine.csv"], mtime=0)
    found["made/wine.pickle"] = pickle.dumps(wine["rows"], protocol=4)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr(zipfile.ZipInfo("wine.csv"), found["made/wine.csv"])
    found["made/wine.zip"] = archive.getvalue()
    code = compile(Path(__file__).read_text(encoding="utf-8"), "magika_cases.py", "exec")
    found["made/bytecode"] = marshal.dumps(code)
    return found


def features(identifier, content):
    """The network's input for these bytes, by the package's own code; None where a file is so
    short that the package answers without the network."""
    _, parts = identifier._get_result_or_features_from_seekable(Seekable(io.BytesIO(content)))
    return None if parts is None else [*parts.beg, *parts.mid, *parts.end]


def case(identifier, session, name, content):
    row = features(identifier, content)
    if row is None:
        return None
    [[outputs]] = session.run(["target_label"], {"bytes": np.array([row], np.int32)})
    reported = identifier.identify_bytes(content)
    # The features are right only if they lead to the score that the package itself reports.
    if not np.isclose(outputs.max(), reported.score, rtol=0, atol=1e-6):
        raise SystemExit(
            f"{name}: the network gives {outputs.max()}, magika reports {reported.score}"
        )
    return {
        "file": name,
        # What the network says, and what the package makes of it (less sure: txt or unknown).
        "network_label": str(reported.dl.label),
        "label": str(reported.output.label),
        "score": reported.score,
        "features": row,
        "outputs": [float(str(value)) for value in outputs],
    }


def signature(values):
    """Names, types and shapes, with -1 for a free dimension."""

    def shape(value):
        return [size if isinstance(size, int) else -1 for size in value.shape]

    return [{"name": v.name, "type": v.type, "shape": shape(v)} for v in values]


def main():
    folder = Path(sys.argv[1])
    identifier = magika.Magika()
    model = Path(magika.__file__).parent / "models" / identifier.get_model_name() / "model.onnx"
    config = json.loads((model.parent / "config.min.json").read_text(encoding="utf-8"))

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(model), options, providers=["CPUExecutionProvider"]
    )
    cases = [case(identifier, session, name, content) for name, content in files().items()]
    cases = [one for one in cases if one is not None]
    if len(cases) < MIN_CASES:
        raise SystemExit(f"{len(cases)} cases, expected {MIN_CASES} or more")

    head = {
        "magika": magika.__version__,
        "onnxruntime": onnxruntime.__version__,
        "inputs": signature(session.get_inputs()),
        "outputs": signature(session.get_outputs()),
        "labels": config["target_labels_space"],
    }
    compact = {"separators": (",", ":")}
    lines = ",\n".join(json.dumps(one, **compact) for one in cases)
    text = json.dumps(head, **compact)[:-1] + ',\n"cases":[\n' + lines + "\n]}\n"
    json.loads(text)
    shutil.copyfile(model, folder / "model.onnx")
    (folder / "cases.json").write_text(text, encoding="utf-8")
    for one in cases:
        print(f"  {one['file']}: {one['label']} ({one['score']:.3f})")


if __name__ == "__main__":
    main()
