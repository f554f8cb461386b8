"""Applies the Terraform module on an emulator of AWS, and runs the deployed description in the lab.

    terraform.py RELEASE

RELEASE is the folder of the artefacts. The configuration is the one of docs/deployment.md. Needs terraform with the AWS
provider: TF_CLI_CONFIG_FILE may name a mirror of it.

1. The first apply. The alias's version (layer, code, variables, memory, timeout) then runs in the lab. It reads the
   model from the bucket and answers a request as scikit-learn does.
2. The second apply changes nothing.
3. A changed variable publishes a version, and the alias names it.
4. Destroy leaves no function, alarm, role or layer.
"""

import base64
import contextlib
import hashlib
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile

import boto3

import run

ARCHITECTURE = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())
MOTO = pathlib.Path(__file__).with_name("moto_server.py")
BUCKET = "models"


def emulator(folder):
    port = run.free_port()
    return run.listening([sys.executable, MOTO, str(port)], port, folder / "moto.log")


def documented():
    """Configuration of docs/deployment.md."""
    page = (run.ROOT / "docs/deployment.md").read_text(encoding="utf-8")
    section = re.search(r"^## Terraform\n(.*?)^## ", page, re.MULTILINE | re.DOTALL)[1]
    text = re.search(r"^```hcl\n(.*?)^```", section, re.MULTILINE | re.DOTALL)[1]
    return text.replace("BUCKET", BUCKET).replace("\n}", f'\n  architecture = "{ARCHITECTURE}"\n}}')


def clone(folder, release):
    """Lays out the part of the repository that the configuration names."""
    shutil.copytree(run.ROOT / "layer/deploy", folder / "layer/deploy", ignore=shutil.ignore_patterns("cdk"))
    (folder / "dist").mkdir()
    (folder / "dist/release").symlink_to(release)


class Deployment:
    """A configuration of Terraform in a folder of its own."""

    def __init__(self, endpoint, folder, text):
        self.folder = folder
        self.text = text
        self.environment = os.environ | {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "eu-central-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "CHECKPOINT_DISABLE": "true",
        }
        session = boto3.Session("test", "test", region_name="eu-central-1")
        self.client = lambda service: session.client(service, endpoint_url=endpoint)
        self.write()
        self.terraform("init", "-input=false")

    def write(self, more=""):
        output = 'output "alias" { value = module.model.alias_arn }\n'
        self.folder.joinpath("main.tf").write_text(self.text.replace("\n}", f"\n{more}}}") + output)

    def terraform(self, *arguments):
        done = subprocess.run(
            ["terraform", *arguments, "-no-color"], cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            sys.exit(f"terraform {arguments} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def apply(self):
        """Numbers of resources that were added, changed and destroyed."""
        printed = self.terraform("apply", "-auto-approve", "-input=false")
        counts = re.search(r"Resources: (\d+) added, (\d+) changed, (\d+) destroyed", printed)
        return tuple(map(int, counts.groups()))

    def version(self):
        return self.client("lambda").get_alias(FunctionName="fraud", Name="live")["FunctionVersion"]

    def configuration(self):
        return self.client("lambda").get_function_configuration(FunctionName="fraud", Qualifier="live")


@contextlib.contextmanager
def in_lab(deployment, release, folder, more):
    """Runs the alias's version in the lab. The emulator keeps digests of the zips, and not the zips."""
    configuration = deployment.configuration()
    (layer,) = configuration["Layers"]
    arn, _, version = layer["Arn"].rpartition(":")
    content = deployment.client("lambda").get_layer_version(LayerName=arn, VersionNumber=int(version))["Content"]
    for name, given, zipped in (
        ("layer", content["CodeSha256"], "model-sidecar"),
        ("function", configuration["CodeSha256"], "model-handler"),
    ):
        path = release / f"{zipped}-{ARCHITECTURE}.zip"
        digest = base64.b64encode(hashlib.sha256(path.read_bytes()).digest()).decode()
        run.check(f"the {name} is the release's", given, digest)
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                pathlib.Path(archive.extract(entry, folder / name)).chmod(entry.external_attr >> 16 & 0o777)
    with run.lab(folder, configuration, more) as url:
        yield url


def main():
    release = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory(prefix="terraform-test-") as scratch, contextlib.ExitStack() as stack:
        folder = pathlib.Path(scratch)
        endpoint = stack.enter_context(emulator(folder))
        place = folder / "configuration"
        clone(place, release)
        deployment = Deployment(endpoint, place, documented())
        s3 = deployment.client("s3")
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        s3.put_object(Bucket=BUCKET, Key="fraud/model.onnx", Body=(run.ROOT / "tests/models/wine-v2.onnx").read_bytes())

        added, changed, destroyed = deployment.apply()
        run.check("the first apply only adds", (added > 10, changed, destroyed), (True, 0, 0))
        first = deployment.version()
        with in_lab(deployment, release, folder, {"AWS_ENDPOINT_URL_S3": endpoint}.items()) as url:
            run.answers(url, "v2")

        run.check("the second apply changes nothing", deployment.apply(), (0, 0, 0))
        run.check("and publishes nothing", deployment.version(), first)

        deployment.write("  memory_size = 512\n")
        added, _, destroyed = deployment.apply()
        run.check("a changed variable replaces nothing", (added, destroyed), (0, 0))
        run.check("it reaches the alias with a version of its own", deployment.version() != first, True)
        run.check("memory", deployment.configuration()["MemorySize"], 512)

        deployment.terraform("destroy", "-auto-approve", "-input=false")
        client = deployment.client
        left = {
            "functions": client("lambda").list_functions()["Functions"],
            "layers": client("lambda").list_layers()["Layers"],
            "alarms": client("cloudwatch").describe_alarms()["MetricAlarms"],
            "dashboards": client("cloudwatch").list_dashboards()["DashboardEntries"],
            "roles": client("iam").list_roles()["Roles"],
            "log groups": client("logs").describe_log_groups()["logGroups"],
        }
        run.check("destroy leaves nothing", {name: found for name, found in left.items() if found}, {})


if __name__ == "__main__":
    main()
