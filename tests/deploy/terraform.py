"""Applies the Terraform module and its examples on an emulator of AWS, and runs the deployed description in the lab.

    terraform.py RELEASE

RELEASE is the folder of the artefacts. The first configuration is the one of docs/deployment.md. Needs terraform with
the AWS provider: TF_CLI_CONFIG_FILE may name a mirror of it.

1. The first apply. The alias's version (layer, code, variables, memory, timeout) then runs in the lab. It reads the
   model from the bucket and answers a request as scikit-learn does.
2. The second apply changes nothing.
3. A changed variable publishes a version, and the alias names it.
4. Destroy leaves no function, alarm, role or layer.

The examples with weights, an existing function and an image are applied twice as well. The emulator routes no requests
by weights, pulls no image and takes no snapshot: the test reads what it stores.
"""

import base64
import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile

import run

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
    return with_argument(text.replace("BUCKET", BUCKET), f'architecture = "{run.ARCHITECTURE}"')


def with_argument(text, argument):
    """Configuration with one more argument in its first block."""
    return text.replace("\n}", f"\n  {argument}\n}}", 1)


def clone(folder, release):
    """Lays out the part of the repository that the configurations name."""
    shutil.copytree(run.ROOT / "layer/deploy", folder / "layer/deploy", ignore=shutil.ignore_patterns("cdk"))
    (folder / "dist/release").mkdir(parents=True)
    for path in release.glob(f"*-{run.ARCHITECTURE}.zip"):
        # The examples, which do not run here, have the default architecture.
        for architecture in {run.ARCHITECTURE, "x86_64"}:
            (folder / "dist/release" / path.name.replace(run.ARCHITECTURE, architecture)).symlink_to(path)


class Deployment:
    """A configuration of Terraform in a folder of its own."""

    def __init__(self, endpoint, folder):
        self.folder = folder
        self.environment = os.environ | {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": run.REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "CHECKPOINT_DISABLE": "true",
        }
        self.client = run.clients(endpoint)
        self.terraform("init", "-input=false")

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

    def apply_twice(self):
        added, changed, destroyed = self.apply()
        run.check("the first apply only adds", (added > 0, changed, destroyed), (True, 0, 0))
        run.check("the second apply changes nothing", self.apply(), (0, 0, 0))

    def alias(self):
        return self.client("lambda").get_alias(FunctionName="fraud", Name="live")

    def configuration(self, qualifier="live", name="fraud"):
        return self.client("lambda").get_function_configuration(FunctionName=name, Qualifier=qualifier)


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
        digest = run.unpack((release / f"{zipped}-{run.ARCHITECTURE}.zip").as_uri(), folder / name)
        run.check(f"the {name} is the release's", base64.b64decode(given).hex(), digest)
    with run.lab(folder, configuration, more) as url:
        yield url


def check_documented(deployment, release, folder):
    client = deployment.client
    run.make_bucket(client, BUCKET)
    model = (run.ROOT / "tests/models/wine-v2.onnx").read_bytes()
    client("s3").put_object(Bucket=BUCKET, Key="fraud/model.onnx", Body=model)
    deployment.apply_twice()
    alias = deployment.alias()
    run.check("the output is the alias", deployment.terraform("output", "-raw", "alias"), alias["AliasArn"])
    more = {"AWS_ENDPOINT_URL_S3": deployment.environment["AWS_ENDPOINT_URL"]}
    with in_lab(deployment, release, folder, more.items()) as url:
        run.answers(url, "v2")

    main = deployment.folder / "main.tf"
    main.write_text(with_argument(main.read_text(), "memory_size = 512"))
    added, _, destroyed = deployment.apply()
    run.check("a changed variable replaces nothing", (added, destroyed), (0, 0))
    run.check("it reaches the alias with a version of its own", deployment.alias()["FunctionVersion"] != alias["FunctionVersion"], True)
    run.check("memory", deployment.configuration()["MemorySize"], 512)

    deployment.terraform("destroy", "-auto-approve", "-input=false")
    left = {
        "functions": client("lambda").list_functions()["Functions"],
        "layers": client("lambda").list_layers()["Layers"],
        "alarms": client("cloudwatch").describe_alarms()["MetricAlarms"],
        "dashboards": client("cloudwatch").list_dashboards()["DashboardEntries"],
        "roles": client("iam").list_roles()["Roles"],
        "log groups": client("logs").describe_log_groups()["logGroups"],
    }
    run.check("destroy leaves nothing", {name: found for name, found in left.items() if found}, {})


def check_canary(deployment):
    main = deployment.folder / "main.tf"
    canary = main.read_text()
    plain = re.sub(r"^  (alias_version|weights) .*\n", "", canary, flags=re.MULTILINE)
    main.write_text(plain)
    deployment.apply()
    run.check("the alias names the first version", deployment.alias()["FunctionVersion"], "1")

    change = "memory_size = 512"
    main.write_text(with_argument(canary, change))
    deployment.apply()
    alias = deployment.alias()
    run.check("the alias still names it", alias["FunctionVersion"], "1")
    run.check("and has weights", alias["RoutingConfig"], {"AdditionalVersionWeights": {"2": 0.1}})
    memory = [deployment.configuration(version)["MemorySize"] for version in ("1", "2")]
    run.check("the change is in the second version", memory, [1769, 512])
    run.check("the next apply changes nothing", deployment.apply(), (0, 0, 0))

    main.write_text(with_argument(plain, change))
    deployment.apply()
    alias = deployment.alias()
    run.check("without weights, the alias names the newest", alias["FunctionVersion"], "2")
    run.check("and it alone", alias.get("RoutingConfig"), None)


def check_existing(deployment):
    with zipfile.ZipFile(deployment.folder / "orders.zip", "w") as archive:
        archive.writestr("orders.py", "def handler(event, context): return event\n")
    deployment.apply_twice()
    found = deployment.configuration("$LATEST", "orders")
    (listed,) = deployment.client("lambda").list_layers()["Layers"]
    arns = [layer["Arn"] for layer in found["Layers"]]
    run.check("the function has the layer", arns, [listed["LatestMatchingVersion"]["LayerVersionArn"]])
    run.check("one variable", found["Environment"]["Variables"], {"MODEL_URI": "s3://my-models/fraud/model.onnx"})
    run.check("its own code", (found["Runtime"], found["Handler"]), ("python3.13", "orders.handler"))
    policy = deployment.client("iam").get_role_policy(RoleName="orders", PolicyName="model")["PolicyDocument"]
    (statement,) = policy["Statement"]
    run.check("the role may read the model", statement["Resource"], "arn:aws:s3:::my-models/fraud/*")

    release = deployment.folder.parents[4] / "dist/release/model-sidecar-x86_64.zip"
    release.unlink()
    with zipfile.ZipFile(release, "w") as archive:
        archive.writestr("extensions/model-sidecar", "")
    deployment.apply()
    (layer,) = deployment.configuration("$LATEST", "orders")["Layers"]
    run.check("the function has the layer of another release", layer["CodeSize"], release.stat().st_size)


def check_container(deployment):
    deployment.apply_twice()
    function = deployment.client("lambda").get_function(FunctionName="fraud", Qualifier="live")
    found = function["Configuration"]
    image = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/fraud:1"
    run.check("the function is the image", (found["PackageType"], function["Code"]["ImageUri"]), ("Image", image))
    run.check("without a layer", found.get("Layers", []), [])
    run.check("with the image's own model", "MODEL_URI" in found["Environment"]["Variables"], False)
    run.check("with a snapshot of each version", found["SnapStart"]["ApplyOn"], "PublishedVersions")


def main():
    release = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory(prefix="terraform-test-") as scratch:
        folder = pathlib.Path(scratch)
        place = folder / "clone"
        clone(place, release)
        place.joinpath("main.tf").write_text(documented())
        with emulator(folder) as endpoint:
            check_documented(Deployment(endpoint, place), release, folder)
        for check in (check_canary, check_existing, check_container):
            name = check.__name__.removeprefix("check_")
            print(f"example {name}", flush=True)
            with emulator(folder) as endpoint:
                check(Deployment(endpoint, place / "layer/deploy/terraform/examples" / name))


if __name__ == "__main__":
    main()
