"""Runs the commands of the README's quick start as they stand there, and those of docs/deployment.md.

    quickstart.py

AWS is an emulator. Invocations go to the lab, which runs the version that the emulator holds. Names in capitals, which
the text explains, are replaced by outputs of the stack. Exits with 1 at the first difference.
"""

import contextlib
import io
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile

import run

ARCHITECTURE = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())
CONFIGURATIONS = (run.ROOT / "samconfig.toml", run.ROOT / "dist/release/samconfig.toml")


def commands(page, heading):
    """Commands of the shell blocks below a heading, without their continuations."""
    text = (run.ROOT / page).read_text(encoding="utf-8")
    section = re.search(rf"^{heading}\n(.*?)(?=^#+ |\Z)", text, re.MULTILINE | re.DOTALL)[1]
    for block in re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL):
        yield from re.sub(r"\\\n\s*", "", block).splitlines()


class Shell:
    def __init__(self, stack, folder):
        self.stack = stack
        self.folder = folder
        tools = f"{run.TOOLS}:{run.EMULATOR}:{os.environ['PATH']}"
        self.environment = stack.environment | {"PATH": tools}
        # Those of the make that runs this program.
        for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL"):
            self.environment.pop(name, None)

    def run(self, command, answers="", more=(), place=run.ROOT):
        command = command.replace("x86_64", ARCHITECTURE)
        print(f"$ {command}", flush=True)
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

    def invoke(self, event, call, place, model, more=()):
        """Makes the event, invokes the version in the lab, and compares the response with scikit-learn's."""
        self.run(event, place=self.folder)
        with run.in_lab(self.stack, self.folder / place, more) as url:
            lab = url[: url.index("/2015-03-31/")]
            call = call.replace("ALIAS", self.stack.outputs()["Alias"])
            self.run(call, more={"AWS_ENDPOINT_URL_LAMBDA": lab}.items(), place=self.folder)
        event = json.loads((self.folder / "event.json").read_text())
        wine = json.loads((run.ROOT / "tests/models/wine.json").read_text())
        expected = [wine[model]["labels"][wine["rows"].index(row)] for row in event["features"]]
        answer = json.loads((self.folder / "response.json").read_text())
        run.check(f"answers as scikit-learn's {model} does", answer.get("prediction", answer), expected)


def attach(shell):
    """Runs the commands that attach the layer to a function that is there."""
    role, client = "orders-role", shell.stack.client
    trust = {"Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "lambda.amazonaws.com"}}]}
    arn = client("iam").create_role(RoleName=role, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.write(run.ROOT / "layer/examples/python/unix.py", "unix.py")
    functions = client("lambda")
    functions.create_function(
        FunctionName="orders", Role=arn, Runtime="python3.13", Handler="unix.handler", Code={"ZipFile": code.getvalue()}
    )
    publish, share, configure, allow = commands("docs/deployment.md", "## An existing function")
    shell.run(publish)
    (layer,) = functions.list_layer_versions(LayerName="model-sidecar")["LayerVersions"]
    names = {"NAME": "orders", "LAYER_ARN": layer["LayerVersionArn"], "ROLE": role}
    names |= {"BUCKET": "models", "KEY": "fraud/model.onnx", "FOLDER": "fraud"}
    for command in (configure, allow):
        shell.run(re.sub(rf"\b({'|'.join(names)})\b", lambda found: names[found[1]], command))
    function = functions.get_function_configuration(FunctionName="orders")
    run.check("the function has the layer", [layer["Arn"] for layer in function["Layers"]], [names["LAYER_ARN"]])
    run.check("and the model", function["Environment"]["Variables"], {"MODEL_URI": "s3://models/fraud/model.onnx"})
    shell.run(share)
    for region in ("eu-west-1", "us-east-1"):
        there = shell.stack.session.client("lambda", region_name=region, endpoint_url=shell.stack.endpoint)
        policy = json.loads(there.get_layer_version_policy(LayerName="model-sidecar", VersionNumber=1)["Policy"])
        condition = policy["Statement"][0]["Condition"]["StringEquals"]
        run.check(f"the organization may use the layer in {region}", condition, {"aws:PrincipalOrgID": "o-1a2b3c4d5e"})
    policy = client("iam").get_role_policy(RoleName=role, PolicyName="model")["PolicyDocument"]
    run.check("and may read it", policy["Statement"][0]["Resource"], "arn:aws:s3:::models/fraud/*")


def main():
    for path in CONFIGURATIONS:
        if path.exists():
            sys.exit(f"{path} exists: its settings would replace those of the text; remove it")
    with tempfile.TemporaryDirectory(prefix="quickstart-test-") as scratch, contextlib.ExitStack() as stack:
        for path in CONFIGURATIONS:
            stack.callback(path.unlink, missing_ok=True)
        folder = pathlib.Path(scratch)
        endpoint = stack.enter_context(run.emulator(folder))
        template = run.ROOT / f"dist/release/template-{ARCHITECTURE}.yaml"
        shell = Shell(run.Stack(template, endpoint, folder), folder)

        for command in commands("README.md", "### On this machine"):
            shell.run(command)
        given = list(commands("README.md", "### On Lambda"))
        run.check("two commands and a call", [one.split()[0] for one in given], ["make", "sam", "echo", "aws"])
        make, deploy, *call = given
        shell.run(make)
        # The stack's name, and the default of each other question.
        shell.run(deploy, answers=f"{run.STACK}\n" + "\n" * 40)
        shell.invoke(*call, "sample", "v1")

        _, *call, upload, deploy = commands("docs/deployment.md", "## SAM")
        bucket = shell.stack.outputs()["ModelBucket"]
        shutil.copy(run.ROOT / "tests/models/wine-v2.onnx", folder / "model.onnx")
        shell.run(upload.replace("model.onnx", f"{folder}/model.onnx", 1).replace("BUCKET", bucket))
        shell.run(deploy.replace("STACK", run.STACK))
        shell.invoke(*call, "bucket", "v2", {"AWS_ENDPOINT_URL_S3": endpoint}.items())

        attach(shell)


if __name__ == "__main__":
    main()
