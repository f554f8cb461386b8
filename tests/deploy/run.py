"""Deploys the release with SAM on an emulator of AWS, and runs the deployed description in the lab.

    run.py TEMPLATE

TEMPLATE is in the folder of the release, of which a copy is deployed. The steps are those of docs/deployment.md, and
options.py has each parameter:

1. The first deployment, with a stack name only. The alias's version (layer, code, variables, memory, timeout) then runs
   in the lab and answers a request as scikit-learn does. The outputs name the stack's parts.
2. The second deployment changes nothing.
3. Changed parameters, another layer and another handler publish a version each, and the alias names it.
4. With the model in the stack's bucket, the function reads it from there, with 128 MB of memory.
5. The dashboard and the alarms of layer/deploy are there, and go with `Monitoring=false`.
6. A second stack has an HTTP API, provisioned concurrency, and a bucket that was there before.

Emulator and lab run on this machine, with processes of this script only. Exits with 1 at the first difference.
"""

import contextlib
import functools
import hashlib
import io
import json
import os
import pathlib
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile

import boto3

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = ROOT / "target/deploy-tools/bin"
EMULATOR = ROOT / "target/ministack/bin"
LAB = ROOT / "target/debug/lab"
STACK = "fraud"
REGION = "eu-central-1"
# Lambda's name of this machine's architecture.
ARCHITECTURE = platform.machine().replace("aarch64", "arm64")
# The labels of the two versions of the model are equal in the first 25 rows.
ROWS = 40
WAIT = 60


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def check(name, given, expected):
    if given != expected:
        sys.exit(f"{name}: got {given!r}, expected {expected!r}")
    print(f"ok: {name}", flush=True)


@contextlib.contextmanager
def running(command, **options):
    process = subprocess.Popen(command, **options)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(WAIT)


@contextlib.contextmanager
def listening(command, port, log, **options):
    """Runs a server with its output in the file `log`, and yields its URL once it accepts connections."""
    with log.open("w") as output, running(command, stdout=output, stderr=output, **options) as process:
        end = time.monotonic() + WAIT
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None or time.monotonic() > end:
                sys.exit("the emulator did not start:\n" + log.read_text())
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"


def emulator(folder, app="emulator:app", **variables):
    port = free_port()
    command = [EMULATOR / "hypercorn", app, "--bind", f"127.0.0.1:{port}"]
    environment = os.environ | {"GATEWAY_PORT": str(port), "MINISTACK_ACCOUNT_ID": "123456789012"} | variables
    environment["PYTHONPATH"] = str(pathlib.Path(__file__).parent)
    return listening(command, port, folder / "emulator.log", env=environment)


def clients(endpoint, key="test", secret="test", token=None):
    """Function that makes clients of the emulator's services."""
    session = boto3.Session(key, secret, token, region_name=REGION)
    return functools.partial(session.client, endpoint_url=endpoint)


def make_bucket(client, name):
    client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})


class Stack:
    """The deployed stack."""

    def __init__(self, template, endpoint, folder, name=STACK):
        self.template = template
        self.name = name
        self.folder = folder
        self.environment = os.environ | {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": REGION,
            "SAM_CLI_TELEMETRY": "0",
        }
        self.endpoint = endpoint
        self.client = clients(endpoint)

    def deploy(self, **parameters):
        """Deploys as docs/deployment.md says, and returns what SAM prints."""
        command = [TOOLS / "sam", "deploy", "--template-file", self.template, "--stack-name", self.name]
        command += ["--resolve-s3", "--capabilities", "CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
        command += ["--no-fail-on-empty-changeset", "--no-progressbar"]
        if parameters:
            command += ["--parameter-overrides", *(f"{name}={value}" for name, value in parameters.items())]
        done = subprocess.run(command, env=self.environment, cwd=self.folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"sam deploy {parameters} failed:\n{done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def outputs(self):
        (stack,) = self.client("cloudformation").describe_stacks(StackName=self.name)["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}

    def alias(self):
        """Version that the alias `live` names."""
        function, _, name = self.outputs()["Alias"].rpartition(":")
        return self.client("lambda").get_alias(FunctionName=function, Name=name)["FunctionVersion"]

    def function(self):
        """Configuration of the alias's version, and where its code is."""
        function, _, name = self.outputs()["Alias"].rpartition(":")
        return self.client("lambda").get_function(FunctionName=function, Qualifier=name)


def check_monitoring(stack):
    """Compares the stack's alarms with the generated file, and reads its dashboard."""
    outputs = stack.outputs()
    function = outputs["Function"]
    generated = json.loads((ROOT / "layer/deploy/alarms.json").read_text()).values()
    names = {alarm["AlarmName"].replace("${FunctionName}-${ModelName}-", outputs["AlarmPrefix"]) for alarm in generated}
    cloudwatch = stack.client("cloudwatch")
    alarms = cloudwatch.describe_alarms()["MetricAlarms"]
    check("alarms", {alarm["AlarmName"] for alarm in alarms}, names)
    (dashboard,) = cloudwatch.list_dashboards()["DashboardEntries"]
    body = cloudwatch.get_dashboard(DashboardName=dashboard["DashboardName"])["DashboardBody"]
    check("the output names the dashboard", outputs["Dashboard"], dashboard["DashboardName"])
    check("the dashboard is of the function", json.loads(body)["variables"][0]["defaultValue"], function)
    check("the dashboard has no unset parameter", re.findall(r"\$\{\w+\}", body), [])


def check_api(stack):
    """Deploys a stack with an HTTP API, provisioned concurrency and a bucket that was there before."""
    make_bucket(stack.client, "models")
    stack.deploy(Access="api", Provisioned=2, Bucket="models", Prefix="fraud/", ModelKey="model.onnx", Monitoring="false")
    outputs, functions = stack.outputs(), stack.client("lambda")
    check("outputs", set(outputs), {"Api", "Alias", "Function", "LogGroup"})
    variables = stack.function()["Configuration"]["Environment"]["Variables"]
    check("the model is in the bucket", variables["MODEL_URI"], "s3://models/fraud/model.onnx")
    # The emulator ignores the body with the route; options.py has it.
    (api,) = stack.client("apigatewayv2").get_apis()["Items"]
    check("the output is the URL of the HTTP API", outputs["Api"], f"{api['ApiEndpoint']}/predict")
    (allowed,) = json.loads(functions.get_policy(FunctionName=outputs["Alias"])["Policy"])["Statement"]
    check("API Gateway may call", allowed["Principal"], {"Service": "apigateway.amazonaws.com"})
    check("the alias", allowed["Resource"], outputs["Alias"])
    provisioned = functions.get_provisioned_concurrency_config(FunctionName=outputs["Function"], Qualifier="live")
    check("provisioned concurrency", provisioned["RequestedProvisionedConcurrentExecutions"], 2)


def unpack(url, folder):
    """Unpacks a zip with its modes, as Lambda does, and returns its SHA-256."""
    content = urllib.request.urlopen(url).read()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for entry in archive.infolist():
            path = pathlib.Path(archive.extract(entry, folder))
            path.chmod(entry.external_attr >> 16 & 0o777)
    return hashlib.sha256(content).hexdigest()


@contextlib.contextmanager
def in_lab(stack, folder, more=()):
    """Runs the alias's version in the lab, and yields the URL of its invocations."""
    described = stack.function()
    configuration = described["Configuration"]
    (layer,) = configuration["Layers"]
    arn, _, version = layer["Arn"].rpartition(":")
    content = stack.client("lambda").get_layer_version(LayerName=arn, VersionNumber=int(version))["Content"]
    release = stack.template.parent
    for name, url, zipped in (
        ("layer", content["Location"], "model-sidecar"),
        ("function", described["Code"]["Location"], "model-handler"),
    ):
        digest = unpack(url, folder / name)
        expected = hashlib.sha256((release / f"{zipped}-{architecture(stack.template)}.zip").read_bytes()).hexdigest()
        check(f"the {name} is the release's", digest, expected)
    with lab(folder, configuration, more) as url:
        yield url


@contextlib.contextmanager
def lab(folder, configuration, more=(), log=subprocess.DEVNULL):
    """Runs the folders `layer` and `function` with a function's configuration, and yields the URL of its invocations."""
    # The port of the documentation may be in use on this machine.
    variables = configuration["Environment"]["Variables"] | {"MODEL_PORT": "0", "MODEL_METRICS": "none"} | dict(more)
    command = [LAB, "serve", "--port", "0", "--layer", folder / "layer", "--function", folder / "function"]
    command += ["--memory", str(configuration["MemorySize"]), "--timeout", f"{configuration['Timeout']}s"]
    for name, value in variables.items():
        command += ["--env", f"{name}={value}"]
    with running(command, stdout=log, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            listening = re.search(r"listening on (127\.0\.0\.1:\d+)", line)
            if listening:
                break
        else:
            sys.exit("the lab did not start")
        yield f"http://{listening[1]}/2015-03-31/functions/function/invocations"


def architecture(template):
    return template.stem.removeprefix("template-")


def answers(url, model):
    wine = json.loads((ROOT / "tests/models/wine.json").read_text())
    event = json.dumps({"features": wine["rows"][:ROWS]}).encode()
    answer = json.load(urllib.request.urlopen(url, event))
    check(f"answers as scikit-learn's {model} does", answer.get("prediction", answer), wine[model]["labels"][:ROWS])


def main():
    original = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory(prefix="deploy-test-") as scratch, contextlib.ExitStack() as stack:
        folder = pathlib.Path(scratch)
        endpoint = stack.enter_context(emulator(folder))
        release = shutil.copytree(original.parent, folder / "release", ignore=shutil.ignore_patterns("samconfig.toml"))
        template = release / original.name
        deployed = Stack(template, endpoint, folder)

        deployed.deploy()
        first = deployed.alias()
        with in_lab(deployed, folder / "sample") as url:
            answers(url, "v1")

        check_monitoring(deployed)
        outputs, configuration = deployed.outputs(), deployed.function()["Configuration"]
        check("the output names the function", outputs["Function"], configuration["FunctionName"])
        check("the output names its log group", outputs["LogGroup"], configuration["LoggingConfig"]["LogGroup"])

        again = deployed.deploy()
        check("the second deployment changes nothing", "up to date" in again or "No changes" in again, True)
        check("and publishes nothing", deployed.alias(), first)

        parameters = {"MemorySize": 128, "Timeout": 20, "Metrics": "emf", "Prefix": "models/", "ModelKey": "wine.onnx"}
        versions = [first]
        for change in ("parameters", "model-sidecar", "model-handler"):
            if change != "parameters":
                with zipfile.ZipFile(release / f"{change}-{architecture(template)}.zip", "a") as archive:
                    archive.writestr("changed", "")
            deployed.deploy(**parameters)
            check(f"a change of {change} reaches the alias with a version of its own", deployed.alias() in versions, False)
            versions.append(deployed.alias())
        configuration = deployed.function()["Configuration"]
        check("memory and timeout", (configuration["MemorySize"], configuration["Timeout"]), (128, 20))

        bucket = deployed.outputs()["ModelBucket"]
        model = (ROOT / "tests/models/wine-v2.onnx").read_bytes()
        deployed.client("s3").put_object(Bucket=bucket, Key="models/wine.onnx", Body=model)
        with in_lab(deployed, folder / "bucket", {"AWS_ENDPOINT_URL_S3": endpoint}.items()) as url:
            answers(url, "v2")

        before = deployed.alias()
        # The emulator does not see a change of a condition alone.
        deployed.deploy(**parameters, Monitoring="false", LogRetentionDays=7)
        cloudwatch = deployed.client("cloudwatch")
        check("no alarms", cloudwatch.describe_alarms()["MetricAlarms"], [])
        check("no dashboard", cloudwatch.list_dashboards()["DashboardEntries"], [])
        check("monitoring publishes no version of the function", deployed.alias(), before)
        check_api(Stack(template, endpoint, folder, "api"))


if __name__ == "__main__":
    main()
