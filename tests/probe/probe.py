"""Records what Lambda does with a function and an extension, and compares it with the lab.

    probe.py lab     record of the lab
    probe.py aws     record of AWS, and its differences from the lab's; needs CONFIRM=1

Function and extension are those of this folder, in Python with its standard library. Both run unchanged on each
platform. `aws` prints what it creates before it begins, and removes everything in the end, also after a failure.
"""

import contextlib
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LAB = ROOT / "target/debug/lab"
CLIENT = ROOT / "target/functions/awslambdaric"
MEMORY = 512
TIMEOUT = 30
# Long enough for Lambda to freeze the environment, in seconds.
IDLE = 30
WAIT = 300
NAMESPACE = "ModelSidecarProbe"
READ = {"do": "read"}


class Failed(Exception):
    """A step of the probe failed."""


# The record.


def record(platform):
    """Facts of a platform by name."""
    facts = {}
    first = platform.invoke(READ)
    for process in ("function", "extension"):
        if not first[process]:
            raise Failed(f"the {process} has recorded no event")
        for name, value in first[process][0]["facts"].items():
            facts[f"{process}: {name}"] = value
        # The lab's own, for its clock.
        facts[f"{process}: variables"] = [name for name in facts[f"{process}: variables"] if name != "LD_PRELOAD"]
    platform.idle()
    second = platform.invoke(READ)
    for process, event in (("function", "invoke"), ("extension", "INVOKE")):
        earlier, later = [one for one in second[process] if one["event"] == event][-2:]
        facts |= {f"freeze: {name} of the {process}": value for name, value in clocks(earlier, later).items()}
    platform.invoke({"do": "crash"}, fails=True)
    third = platform.invoke(READ)
    facts["reset: /tmp is kept"] = len(third["function"]) > len(second["function"])
    reasons = [one["reason"] for one in third["extension"] if one["event"] == "SHUTDOWN"]
    facts["reset: reasons of SHUTDOWN after a crash"] = reasons
    facts["s3: a ranged GET with checksums enabled"] = platform.ranged()
    facts["emf: a line of an extension becomes a metric"] = platform.has_metric()
    restored = platform.restored()
    for process in ("function", "extension"):
        facts[f"snapstart: events of the {process}"] = [one["event"] for one in restored[process]]
    keys = [one["key"] for one in restored["extension"]]
    facts["snapstart: an extension has credentials"] = all(keys)
    facts["snapstart: the credentials change"] = keys[0] != keys[-1]
    around = [one for one in restored["function"] if one["event"] in ("before snapshot", "after restore")]
    facts["snapstart: the function is one process"] = len({one["pid"] for one in around}) == 1
    (imported, *_) = restored["function"]
    facts["snapstart: credentials in"] = imported["facts"]["credentials in"]
    return facts


def clocks(earlier, later):
    """Behaviour of each clock between two events, by the wall clock."""
    wall = later["wall"] - earlier["wall"]
    runs = {name: later[name] - earlier[name] > wall / 2 for name in ("monotonic", "boot")}
    return {f"the clock {name}": "runs" if is_running else "stands still" for name, is_running in runs.items()}


def differences(facts, reference):
    """Lines about the facts that differ from those of the lab."""
    lines = []
    for name in sorted(facts.keys() | reference.keys()):
        here, there = facts.get(name), reference.get(name)
        if here == there:
            continue
        if name.endswith(": variables"):
            here, there = sorted(set(here) - set(there)), sorted(set(there) - set(here))
        lines.append(f"{name}\n  AWS {json.dumps(here)}\n  lab {json.dumps(there)}")
    return lines


# The lab.


class Lab:
    """The lab's platform, with one environment."""

    # The lab's S3 is not part of its command. Its answer is held by tests/lab_tests/s3.rs.
    RANGED = {"status": 206, "checksums": []}

    def __init__(self, folder):
        self.function = folder / "function"
        shutil.copytree(CLIENT, self.function)
        shutil.copy(HERE / "function/probe.py", self.function)
        bootstrap = self.function / "bootstrap"
        bootstrap.write_text('#!/bin/sh\nexec python3 -m awslambdaric "$_HANDLER"\n')
        bootstrap.chmod(0o755)
        self.log = (folder / "lab.log").open("a+")

    @contextlib.contextmanager
    def serving(self, *options):
        start = self.log.seek(0, os.SEEK_END)
        command = [LAB, "serve", "--layer", HERE / "layer", "--function", self.function, "--handler", "probe.handler"]
        command += ["--memory", str(MEMORY), "--timeout", f"{TIMEOUT}s", "--concurrency", "1", "--clock", "jumps"]
        process = subprocess.Popen([*command, "--port", "0", *options], stdout=self.log, stderr=self.log)
        try:
            self.port = wait("the lab", lambda: self.listening(start))
            yield self
        finally:
            process.terminate()
            process.wait(WAIT)

    def listening(self, start):
        """Port of the lab whose log begins at this position; `None` until the lab listens."""
        self.log.seek(start)
        line = re.search(r"^lab: listening on 127\.0\.0\.1:(\d+);", self.log.read(), re.MULTILINE)
        return line and line[1]

    def invoke(self, event, fails=False):
        url = f"http://127.0.0.1:{self.port}/2015-03-31/functions/function/invocations"
        with urllib.request.urlopen(url, json.dumps(event).encode()) as response:
            return answer(event, json.load(response), response.headers.get("X-Amz-Function-Error"), fails)

    def idle(self):
        subprocess.run([LAB, "freeze", "--port", self.port, "--for", f"{IDLE}s"], check=True, stdout=self.log)

    def ranged(self):
        return self.RANGED

    def has_metric(self):
        self.log.flush()
        self.log.seek(0)
        return NAMESPACE in self.log.read()

    def restored(self):
        with self.serving("--snap-start"):
            return self.invoke(READ)


def lab():
    """Record of the lab."""
    for needed, target in ((LAB, "stage"), (CLIENT, "runtimes")):
        if not needed.exists():
            raise Failed(f"{needed} is missing: run `make {target}`")
    with tempfile.TemporaryDirectory(prefix="probe") as folder:
        platform = Lab(pathlib.Path(folder))
        with platform.serving():
            return record(platform)


# AWS.


class Aws:
    """An account on AWS, with what the probe has created there."""

    def __init__(self, session, endpoint=None):
        self.client = lambda service: session.client(service, endpoint_url=endpoint)
        self.region = session.region_name
        self.name = f"model-sidecar-probe-{uuid.uuid4().hex[:8]}"
        # What to remove, each with its description, in the order of creation.
        self.created = []

    def plan(self):
        return [
            f"IAM role {self.name}, with its own log groups and bucket",
            f"S3 bucket {self.name}, with one object of 20 bytes",
            f"layer {self.name}, with the extension",
            f"functions {self.name} and {self.name}-snapstart, {MEMORY} MB, about 10 invocations, and one snapshot",
            f"their two log groups, and one metric in the namespace {NAMESPACE}, which expires by itself",
        ]

    def create(self):
        iam, s3, functions = self.client("iam"), self.client("s3"), self.client("lambda")
        self.remove_later("bucket", self.remove_bucket)
        place = {} if self.region == "us-east-1" else {"LocationConstraint": self.region}
        s3.create_bucket(Bucket=self.name, **({"CreateBucketConfiguration": place} if place else {}))
        s3.put_object(Bucket=self.name, Key="object", Body=b"12345678901234567890", ChecksumAlgorithm="CRC32")
        self.remove_later("role", self.remove_role)
        role = iam.create_role(RoleName=self.name, AssumeRolePolicyDocument=json.dumps(policy("sts:AssumeRole", trust=True)))
        logs = f"arn:aws:logs:*:*:log-group:/aws/lambda/{self.name}*"
        statements = policy(["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"], logs)
        statements["Statement"] += policy("s3:GetObject", f"arn:aws:s3:::{self.name}/*")["Statement"]
        iam.put_role_policy(RoleName=self.name, PolicyName="probe", PolicyDocument=json.dumps(statements))
        self.remove_later("layer", self.remove_layer)
        layer = functions.publish_layer_version(LayerName=self.name, Content={"ZipFile": packed(HERE / "layer")})
        for name, more in ((self.name, {}), (f"{self.name}-snapstart", {"SnapStart": {"ApplyOn": "PublishedVersions"}})):
            self.remove_later(f"log group of {name}", lambda name=name: self.remove_logs(name))
            self.remove_later(f"function {name}", lambda name=name: functions.delete_function(FunctionName=name))
            # A new role is not known everywhere at once.
            wait(f"function {name}", lambda: self.create_function(name, role, layer, more), pause=5)
            wait(f"function {name}", lambda: self.is_active(name), pause=2)
        self.version = functions.publish_version(FunctionName=f"{self.name}-snapstart")["Version"]
        wait("the snapshot", lambda: self.is_active(f"{self.name}-snapstart", self.version), pause=5)

    def create_function(self, name, role, layer, more):
        functions = self.client("lambda")
        try:
            return functions.create_function(
                FunctionName=name,
                Runtime="python3.13",
                Handler="probe.handler",
                Role=role["Role"]["Arn"],
                Code={"ZipFile": packed(HERE / "function")},
                Layers=[layer["LayerVersionArn"]],
                MemorySize=MEMORY,
                Timeout=TIMEOUT,
                LoggingConfig={"LogFormat": "JSON"},
                **more,
            )
        except functions.exceptions.InvalidParameterValueException:
            return None

    def is_active(self, name, version="$LATEST"):
        described = self.client("lambda").get_function_configuration(FunctionName=name, Qualifier=version)
        if described.get("State") == "Failed":
            raise Failed(f"{name}: {described.get('StateReason')}")
        return described.get("State") == "Active"

    def invoke(self, event, fails=False, name=None, version="$LATEST"):
        payload = json.dumps(event).encode()
        done = self.client("lambda").invoke(FunctionName=name or self.name, Qualifier=version, Payload=payload)
        return answer(event, json.load(done["Payload"]), done.get("FunctionError"), fails)

    def idle(self):
        time.sleep(IDLE)

    def ranged(self):
        return self.invoke({"do": "range", "bucket": self.name, "key": "object"})

    def has_metric(self):
        metrics = self.client("cloudwatch")
        end = time.monotonic() + WAIT
        while time.monotonic() < end:
            if metrics.list_metrics(Namespace=NAMESPACE, Dimensions=[{"Name": "FunctionName", "Value": self.name}])["Metrics"]:
                return True
            time.sleep(10)
        return False

    def restored(self):
        return self.invoke(READ, name=f"{self.name}-snapstart", version=self.version)

    def remove_later(self, what, remove):
        self.created.append((what, remove))

    def remove(self):
        """Removes everything, and returns what could not be removed."""
        left = []
        for what, remove in reversed(self.created):
            try:
                remove()
            except Exception as error:
                code = getattr(error, "response", {}).get("Error", {}).get("Code", "")
                if code not in ("ResourceNotFoundException", "NoSuchEntity", "NoSuchBucket"):
                    left.append(f"{what}: {error}")
        return left

    def remove_bucket(self):
        s3 = self.client("s3")
        s3.delete_object(Bucket=self.name, Key="object")
        s3.delete_bucket(Bucket=self.name)

    def remove_role(self):
        iam = self.client("iam")
        with contextlib.suppress(iam.exceptions.NoSuchEntityException):
            iam.delete_role_policy(RoleName=self.name, PolicyName="probe")
        iam.delete_role(RoleName=self.name)

    def remove_layer(self):
        functions = self.client("lambda")
        for version in functions.list_layer_versions(LayerName=self.name)["LayerVersions"]:
            functions.delete_layer_version(LayerName=self.name, VersionNumber=version["Version"])

    def remove_logs(self, function):
        self.client("logs").delete_log_group(logGroupName=f"/aws/lambda/{function}")


def policy(actions, resource=None, trust=False):
    statement = {"Effect": "Allow", "Action": actions}
    statement |= {"Principal": {"Service": "lambda.amazonaws.com"}} if trust else {"Resource": resource}
    return {"Version": "2012-10-17", "Statement": [statement]}


def packed(folder):
    """A zip of a folder, with the modes of its files."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                archive.write(path, path.relative_to(folder))
    return content.getvalue()


def answer(event, response, error, fails):
    if bool(error) != fails:
        raise Failed(f"invocation {event}: {response}")
    return response


def wait(what, look, pause=0.1):
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(pause)
    raise Failed(f"{what} is not there after {WAIT} s")


def probe(account):
    """Record of an account; removes everything, and raises if something is left."""
    try:
        account.create()
        return record(account)
    finally:
        left = account.remove()
        for line in left:
            print(f"NOT REMOVED: {line}", file=sys.stderr)
        print("removed everything" if not left else "remove the above by hand", file=sys.stderr)


def main():
    match sys.argv[1:]:
        case ["lab"]:
            print(json.dumps(lab(), indent=1, sort_keys=True))
        case ["aws"]:
            import boto3

            account = Aws(boto3.Session())
            print(f"creates in {account.region}:", *account.plan(), sep="\n  ")
            print("for about 10 minutes, for less than $0.05, and removes it in the end.")
            if os.environ.get("CONFIRM") != "1":
                sys.exit("nothing was created: set CONFIRM=1 to continue")
            reference = lab()
            facts = probe(account)
            print(json.dumps(facts, indent=1, sort_keys=True))
            print("differences from the lab:", *(differences(facts, reference) or ["none"]), sep="\n")
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    try:
        main()
    except Failed as error:
        sys.exit(f"probe: {error}")
