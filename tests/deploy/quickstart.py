"""Runs the commands of the README's quick start as they stand there, and those of docs/deployment.md.

    quickstart.py

AWS is an emulator. Invocations go to the lab, which runs the version that the emulator holds. A server in between is the
function URL: it verifies signatures. Names in capitals, which the text explains, are replaced by outputs of the stack.
Exits with 1 at the first difference.
"""

import contextlib
import http.server
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.request

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

import attach
import run

# The default of each question.
ENTER = "\n" * 40
CONFIGURATIONS = (run.ROOT / "samconfig.toml", run.ROOT / "dist/release/samconfig.toml")


def commands(page, heading):
    """Commands of the shell blocks below a heading, without their continuations."""
    text = (run.ROOT / page).read_text(encoding="utf-8")
    section = re.search(rf"^{heading}\n(.*?)(?=^#+ |\Z)", text, re.MULTILINE | re.DOTALL)[1]
    for block in re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL):
        yield from re.sub(r"\\\n\s*", "", block).splitlines()


class FunctionUrl(http.server.BaseHTTPRequestHandler):
    """A function URL with IAM authorization, in front of the lab."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        status, answer = 403, '{"Message":"Forbidden"}'
        if self.signature(body) == self.headers.get("authorization", "").rpartition("Signature=")[2]:
            context = {"http": {"method": "POST", "path": self.path}}
            event = {"version": "2.0", "rawPath": self.path, "rawQueryString": "", "requestContext": context}
            event |= {"headers": dict(self.headers), "body": body.decode(), "isBase64Encoded": False}
            given = json.load(urllib.request.urlopen(self.server.invocations, json.dumps(event).encode()))
            status, answer = given["statusCode"], given["body"]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(answer.encode())

    def signature(self, body):
        """Signature of the request by a key with a session token, whose header is signed."""
        found = re.search(r"SignedHeaders=([\w;-]+)", self.headers.get("authorization", ""))
        names = found[1].split(";") if found else []
        if not {"host", "x-amz-date", "x-amz-security-token"} <= set(names):
            return None
        headers = {name: self.headers[name] for name in names}
        request = AWSRequest("POST", f"http://{self.headers['host']}{self.path}", headers, body)
        request.context["timestamp"] = self.headers["x-amz-date"]
        signer = SigV4Auth(Credentials("test", "test"), "lambda", run.REGION)
        return signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)

    def log_message(self, *_):
        pass


class Shell:
    def __init__(self, stack, folder):
        self.stack = stack
        self.folder = folder
        tools = f"{run.TOOLS}:{run.EMULATOR}:{run.ROOT}/target/debug:{os.environ['PATH']}"
        library = next((run.ROOT / "target/onnxruntime").glob("*/libonnxruntime.so.*"))
        self.environment = stack.environment | {"PATH": tools, "ORT_DYLIB_PATH": str(library)}
        # The text sets the region. The others are of the make that runs this program.
        for name in ("AWS_DEFAULT_REGION", "MAKEFLAGS", "MFLAGS", "MAKELEVEL"):
            self.environment.pop(name, None)

    def run(self, command, answers="", more=(), place=run.ROOT):
        command = command.replace("x86_64", run.ARCHITECTURE)
        print(f"$ {command}", flush=True)
        if command.startswith("export "):
            self.environment |= [command.removeprefix("export ").split("=")]
            return ""
        log = self.folder / "log"
        with log.open("w") as output:
            done = subprocess.run(
                ["bash", "-c", command],
                env=self.environment | dict(more),
                cwd=place,
                input=answers,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
        if done.returncode != 0:
            sys.exit(f"{command} failed:\n{log.read_text()[-4000:]}")
        return log.read_text()

    @contextlib.contextmanager
    def lab(self, name, more=()):
        """Runs the deployed version in the lab, for invocations and for calls of the function URL."""
        with contextlib.ExitStack() as stack:
            invocations = stack.enter_context(run.in_lab(self.stack, self.folder / name, more))
            server = stack.enter_context(http.server.HTTPServer(("127.0.0.1", 0), FunctionUrl))
            server.invocations = invocations
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)
            yield invocations[: invocations.index("/2015-03-31/")], f"http://127.0.0.1:{server.server_port}/"

    def invoke(self, event, call, lab, model):
        """Makes the event, invokes the version in the lab, and compares the response with scikit-learn's."""
        self.run(event, place=self.folder)
        call = call.replace("ALIAS", self.stack.outputs()["Alias"])
        self.run(call, more={"AWS_ENDPOINT_URL_LAMBDA": lab}.items(), place=self.folder)
        self.check((self.folder / "response.json").read_text(), model)

    def call(self, url):
        """Calls the function URL as docs/deployment.md says, and without a signature."""
        signed, curl = commands("docs/deployment.md", "### Calls of the URL")
        more = {"AWS_SESSION_TOKEN": "token"}.items()
        # The host of this function URL is not AWS's.
        answer = self.run(signed.replace("URL", f"--sign {url}"), more=more, place=self.folder)
        self.check(answer.splitlines()[0], "v1")
        self.check(self.run(f"{curl.replace('URL', url)} --silent", more=more, place=self.folder), "v1")
        status = self.run(f"curl --silent --output body --write-out '%{{http_code}}' --data @event.json {url}", place=self.folder)
        run.check("a call without a signature", status, "403")

    def check(self, answer, model):
        event = json.loads((self.folder / "event.json").read_text())
        wine = json.loads((run.ROOT / "tests/models/wine.json").read_text())
        expected = [wine[model]["labels"][wine["rows"].index(row)] for row in event["features"]]
        answer = json.loads(answer)
        run.check(f"answers as scikit-learn's {model} does", answer.get("prediction", answer), expected)

    def model_uri(self):
        return self.stack.function()["Configuration"]["Environment"]["Variables"]["MODEL_URI"]


def remove(shell, bucket):
    """Runs the commands that remove the stack and its bucket."""
    delete, empty, drop = commands("docs/deployment.md", "### Removal")
    s3, functions, name = shell.stack.client("s3"), shell.stack.client("lambda"), shell.stack.outputs()["Function"]
    s3.delete_object(Bucket=bucket, Key="model/manifest.json")
    shell.run(delete.replace("STACK", run.STACK), answers="y\n" * 3)
    run.check("the function is removed", name in {one["FunctionName"] for one in functions.list_functions()["Functions"]}, False)
    run.check("the models are kept", len(s3.list_object_versions(Bucket=bucket)["Versions"]), 2)
    shell.run(empty.replace("BUCKET", bucket))
    shell.run(drop.replace("BUCKET", bucket))
    run.check("the bucket is removed", bucket in {one["Name"] for one in s3.list_buckets()["Buckets"]}, False)


def main():
    for path in CONFIGURATIONS:
        if path.exists():
            sys.exit(f"{path} exists: its settings would replace those of the text; remove it")
    with tempfile.TemporaryDirectory(prefix="quickstart-test-") as scratch, contextlib.ExitStack() as stack:
        for path in CONFIGURATIONS:
            stack.callback(path.unlink, missing_ok=True)
        folder = pathlib.Path(scratch)
        endpoint = stack.enter_context(run.emulator(folder))
        template = run.ROOT / f"dist/release/template-{run.ARCHITECTURE}.yaml"
        shell = Shell(run.Stack(template, endpoint, folder), folder)

        for command in commands("README.md", "### On this machine"):
            shell.run(command)
        given = list(commands("README.md", "### On Lambda"))
        run.check("two commands and a call", [one.split()[0] for one in given], ["export", "make", "sam", "echo", "aws"])
        region, make, deploy, *call = given
        run.check("docs/deployment.md has the same", list(commands("docs/deployment.md", "## SAM")), [region, deploy, *call])
        shell.run(region)
        shell.run(make)
        # The stack's name, and the default of each other question.
        shell.run(deploy, answers=f"{run.STACK}\n{ENTER}")
        with shell.lab("sample") as (lab, url):
            shell.invoke(*call, lab, "v1")
            shell.call(url)

        publish, deploy = commands("docs/deployment.md", "### Your model")
        bucket = shell.stack.outputs()["ModelBucket"]
        shutil.copy(run.ROOT / "tests/models/wine-v2.onnx", folder / "model.onnx")
        shell.run(publish.replace("BUCKET", bucket), place=folder)
        # Name, region and model key.
        shell.run(deploy, answers=f"\n\nmanifest.json\n{ENTER}")
        saved = CONFIGURATIONS[1].read_text()
        run.check("the capabilities are saved", 'capabilities = "CAPABILITY_IAM CAPABILITY_AUTO_EXPAND"' in saved, True)
        with shell.lab("bucket", {"AWS_ENDPOINT_URL_S3": endpoint}.items()) as (lab, _):
            shell.invoke(*call, lab, "v2")

        make_again, deploy = commands("docs/deployment.md", "### Upgrade")
        run.check("an upgrade builds the same", make_again, make)
        uri = shell.model_uri()
        shell.run(f"{deploy} --no-fail-on-empty-changeset")
        run.check("an upgrade keeps the answers", shell.model_uri(), uri)

        attach.check_sam(folder)
        attach.check_terraform()
        attach.check_commands(shell, *commands("docs/deployment.md", "## An existing function"))
        attach.check_two_functions(shell)
        remove(shell, bucket)


if __name__ == "__main__":
    main()
