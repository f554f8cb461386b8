"""Shows on an emulator that enforces IAM that the deployed role is enough, and no more.

    role.py sam RELEASE
    role.py terraform RELEASE
    role.py cdk RELEASE

RELEASE is the folder of the artefacts. Each row of features is deployed on an emulator of its own:

1. The role allows what the row's features need, and nothing else.
2. The lab runs the function with temporary credentials of the role. It serves, and its metrics arrive.

The last row has a model in an encrypted bucket:

3. The function serves the model and its next version, a repository, a manifest, a version by its ID, and the version
   before a broken one.
4. Without one of the role's actions it does not, and the log names the action. Each action is removed in turn.
5. The role cannot write or delete, and cannot read another prefix, bucket, key or log group.

The lab sends no logs to CloudWatch. The test writes them with the role's credentials, as Lambda does.
"""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.request

from botocore.exceptions import ClientError

import run
import terraform

MODELS = run.ROOT / "tests/models"
WINE = json.loads((MODELS / "wine.json").read_text())
TIMEOUT = 10
BUCKET = "models"
PREFIX = "fraud/"
# Below the prefix: a model, a model whose last version is broken, a repository, and a manifest.
MODEL, BROKEN, REPOSITORY, MANIFEST = "model.onnx", "broken.onnx", "repository/", "manifest/manifest.json"
# For each action, a model that needs it, the version that is served, and the log without the action.
NEEDED = {
    "s3:GetObject": (MODEL, "v2", "the function's role needs s3:GetObject on the object"),
    "s3:GetObjectVersion": (BROKEN, "v1", "the function's role needs s3:GetObjectVersion on the object"),
    "s3:ListBucket": (REPOSITORY, "v2", "the function's role needs s3:ListBucket on the bucket"),
    "s3:ListBucketVersions": (BROKEN, "v1", "the function's role needs s3:ListBucketVersions on the bucket"),
    "kms:Decrypt": (MANIFEST, "v2", "the function's role needs kms:Decrypt on the key"),
}


def uri(name):
    return f"s3://{BUCKET}/{PREFIX}{name}"


def listed(value):
    return value if isinstance(value, list) else [value]


class Deployed:
    """Deployed function and its role."""

    def __init__(self, client, endpoint, function):
        self.root = client
        self.endpoint = endpoint
        self.function = function
        self.group = function["LoggingConfig"]["LogGroup"]
        self.destination = function["Environment"]["Variables"]["MODEL_METRICS"]
        self.name = function["Role"].rpartition("/")[2]
        iam = client("iam")
        (self.policy,) = iam.list_role_policies(RoleName=self.name)["PolicyNames"]
        self.document = iam.get_role_policy(RoleName=self.name, PolicyName=self.policy)["PolicyDocument"]
        attached = iam.list_attached_role_policies(RoleName=self.name)["AttachedPolicies"]
        run.check("the role has no other policy", attached, [])
        (trust,) = iam.get_role(RoleName=self.name)["Role"]["AssumeRolePolicyDocument"]["Statement"]
        trusted = trust["Effect"], trust["Action"], trust["Principal"]
        run.check("Lambda may assume the role", trusted, ("Allow", "sts:AssumeRole", {"Service": "lambda.amazonaws.com"}))

    def allowed(self):
        """Each action with its effect, resource and conditions."""
        return [
            (action, one["Effect"], one["Resource"], one.get("Condition"))
            for one in self.document["Statement"]
            for action in listed(one["Action"])
        ]

    def credentials(self):
        assumed = self.root("sts").assume_role(RoleArn=self.function["Role"], RoleSessionName="function")["Credentials"]
        return assumed["AccessKeyId"], assumed["SecretAccessKey"], assumed["SessionToken"]

    def client(self, service):
        """Client of a service with the role's credentials."""
        return run.clients(self.endpoint, *self.credentials())(service)

    @contextlib.contextmanager
    def without(self, action):
        """Takes an action from the role."""
        statements = self.document["Statement"]
        rest = [one | {"Action": [each for each in listed(one["Action"]) if each != action]} for one in statements]
        self.put([one for one in rest if one["Action"]])
        yield
        self.put(statements)

    def put(self, statements):
        document = json.dumps(self.document | {"Statement": statements})
        self.root("iam").put_role_policy(RoleName=self.name, PolicyName=self.policy, PolicyDocument=document)

    def metrics(self):
        return self.root("cloudwatch").list_metrics(Namespace="ModelSidecar")["Metrics"]

    def write_logs(self, group):
        """Writes to a log group with the role's credentials, as Lambda does."""
        logs, stream = self.client("logs"), {"logGroupName": group, "logStreamName": f"stream-{time.monotonic_ns()}"}
        logs.create_log_stream(**stream)
        logs.put_log_events(**stream, logEvents=[{"timestamp": int(time.time() * 1000), "message": "START"}])


class Function:
    """Function that runs in the lab."""

    def __init__(self, url, log):
        self.url = url
        self.log = log
        self.invocations = 0

    def version(self):
        """Invokes the function, and returns the version whose labels are in the response, or None."""
        event = json.dumps({"features": WINE["rows"][: run.ROWS]}).encode()
        labels = json.load(urllib.request.urlopen(self.url, event)).get("prediction")
        # During the rest of the invocation, the lab would start another environment.
        self.invocations += 1
        self.wait("the end of the invocation", lambda: self.log.read_text().count("REPORT RequestId") >= self.invocations)
        return next((version for version in ("v1", "v2") if WINE[version]["labels"][: run.ROWS] == labels), None)

    def serves(self, version, model="the deployed model"):
        name = f"serves {version} of {model}"
        self.wait(name, lambda: self.version() == version)
        run.check(name, True, True)

    def logs(self, text):
        self.until(f"the log says: {text}", lambda: text in self.log.read_text())

    def until(self, name, holds):
        """Invokes the function until a condition holds."""

        def held():
            found = holds()
            if not found:
                self.version()
            return found

        self.wait(name, held)
        run.check(name, True, True)

    def wait(self, name, holds):
        end = time.monotonic() + run.WAIT
        while not holds():
            if time.monotonic() > end:
                sys.exit(f"not within {run.WAIT} s: {name}; the log ends:\n{self.log.read_text()[-5000:]}")
            time.sleep(0.01)


@contextlib.contextmanager
def in_lab(deployed, folder, **variables):
    """Runs the function in the lab with credentials of the role."""
    key, secret, token = deployed.credentials()
    more = {
        "AWS_ENDPOINT_URL": deployed.endpoint,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_SESSION_TOKEN": token,
        "MODEL_METRICS": deployed.destination,
        "MODEL_METRICS_INTERVAL": "0",
        "MODEL_REFRESH_INTERVAL": "0",
    }
    path = folder / "lab.log"
    with path.open("w") as log, run.lab(folder, deployed.function, (more | variables).items(), log) as url:
        yield Function(url, path)


def check_document(deployed, bucket=None, prefix=PREFIX, key=None):
    """Compares the role with what the features need."""
    group = f"arn:aws:logs:{run.REGION}:123456789012:log-group:{deployed.group}:*"
    expected = [(action, group, None) for action in ("logs:CreateLogStream", "logs:PutLogEvents")]
    if deployed.destination == "cloudwatch":
        expected.append(("cloudwatch:PutMetricData", "*", {"StringEquals": {"cloudwatch:namespace": "ModelSidecar"}}))
    if bucket:
        arn, below = f"arn:aws:s3:::{bucket}", {"StringLike": {"s3:prefix": f"{prefix}*"}}
        expected += [(action, f"{arn}/{prefix}*", None) for action in ("s3:GetObject", "s3:GetObjectVersion")]
        expected += [(action, arn, below) for action in ("s3:ListBucket", "s3:ListBucketVersions")]
    if key:
        expected.append(("kms:Decrypt", key, None))
    expected = [(action, "Allow", resource, condition) for action, resource, condition in expected]
    run.check("the role allows what the features need", sorted(deployed.allowed(), key=str), sorted(expected, key=str))


def check_run(deployed, folder):
    """Runs the function as it is deployed."""
    with in_lab(deployed, folder) as function:
        function.serves("v1")
        if deployed.destination == "cloudwatch":
            function.until("delivers metrics", deployed.metrics)
    run.check("nothing is denied", "role needs" in function.log.read_text(), False)
    run.check("metrics in CloudWatch", bool(deployed.metrics()), deployed.destination == "cloudwatch")
    deployed.write_logs(deployed.group)


def check_enough(deployed, folder):
    """Runs the function with each kind of model."""
    with in_lab(deployed, folder) as function:
        function.serves("v1")
        upload(deployed.root, MODEL, "wine-v2")
        function.serves("v2")
    for name, version, _ in NEEDED.values():
        with in_lab(deployed, folder, MODEL_URI=uri(name)) as function:
            function.serves(version, name)
    (broken, first) = deployed.root("s3").list_object_versions(Bucket=BUCKET, Prefix=PREFIX + BROKEN)["Versions"]
    run.check("the broken version is the latest", (broken["IsLatest"], first["IsLatest"]), (True, False))
    with in_lab(deployed, folder, MODEL_URI=uri(BROKEN), MODEL_VERSION=first["VersionId"]) as function:
        function.serves("v1", "a version ID")


def check_needed(deployed, folder):
    """Takes each action from the role."""
    for action, *_ in deployed.allowed():
        with deployed.without(action):
            if action.startswith("logs:"):
                check_denied(f"logs without {action}", lambda: deployed.write_logs(deployed.group))
                continue
            if action == "cloudwatch:PutMetricData":
                with in_lab(deployed, folder) as function:
                    function.logs("the role needs cloudwatch:PutMetricData")
                continue
            name, version, text = NEEDED[action]
            with in_lab(deployed, folder, MODEL_URI=uri(name)) as function:
                function.logs(text)
                run.check(f"does not serve {version} of {name}", function.version() == version, False)


def check_no_more(deployed):
    """Calls AWS with the role's credentials beyond the function's purpose."""
    root, place = deployed.root, {"Bucket": BUCKET}
    other = place | {"Key": "other/model.onnx"}
    other_version = root("s3").put_object(**other, Body=b"1")["VersionId"]
    own = place | {"Key": PREFIX + MODEL}
    own_version = root("s3").head_object(**own)["VersionId"]
    other_key = root("kms").create_key()["KeyMetadata"]["Arn"]
    encrypted = place | {"Key": f"{PREFIX}encrypted.onnx"}
    root("s3").put_object(**encrypted, Body=b"1", ServerSideEncryption="aws:kms", SSEKMSKeyId=other_key)
    run.make_bucket(root, "others")
    root("s3").put_object(Bucket="others", Key=PREFIX + MODEL, Body=b"1")
    root("logs").create_log_group(logGroupName="others")
    data = {"MetricData": [{"MetricName": "Inferences", "Value": 1}]}
    policy = {"RoleName": deployed.name, "PolicyName": deployed.policy, "PolicyDocument": json.dumps(deployed.document)}
    for service, call, arguments in (
        ("s3", "get_object", other),
        ("s3", "get_object", other | {"VersionId": other_version}),
        ("s3", "get_object", encrypted),
        ("s3", "get_object", {"Bucket": "others", "Key": PREFIX + MODEL}),
        ("s3", "list_objects_v2", place),
        ("s3", "list_objects_v2", place | {"Prefix": "other/"}),
        ("s3", "list_object_versions", place | {"Prefix": "other/"}),
        ("s3", "list_objects_v2", {"Bucket": "others", "Prefix": PREFIX}),
        ("s3", "list_buckets", {}),
        ("s3", "put_object", own | {"Body": b"1"}),
        ("s3", "delete_object", own),
        ("s3", "delete_object", own | {"VersionId": own_version}),
        ("s3", "create_multipart_upload", own),
        ("s3", "put_bucket_versioning", place | {"VersioningConfiguration": {"Status": "Suspended"}}),
        ("kms", "encrypt", {"KeyId": other_key, "Plaintext": b"1"}),
        ("kms", "disable_key", {"KeyId": other_key}),
        ("cloudwatch", "put_metric_data", data | {"Namespace": "Others"}),
        ("cloudwatch", "list_metrics", {}),
        ("logs", "create_log_group", {"logGroupName": "more"}),
        ("logs", "delete_log_group", {"logGroupName": deployed.group}),
        ("lambda", "get_function", {"FunctionName": deployed.function["FunctionName"]}),
        ("iam", "put_role_policy", policy),
    ):
        named = " ".join(str(value) for name, value in arguments.items() if name in ("Bucket", "Key", "Prefix", "Namespace"))
        check_denied(f"{service} {call} {named}", lambda: getattr(deployed.client(service), call)(**arguments))
    check_denied("another log group", lambda: deployed.write_logs("others"))


def check_denied(name, call):
    try:
        call()
    except ClientError as error:
        code = error.response["Error"]["Code"]
    else:
        code = "allowed"
    run.check(f"denied: {name}", code.removesuffix("Exception"), "AccessDenied")


def prepare(client):
    """Makes an encrypted bucket with versions and the models, and returns the ARN of its key."""
    s3, key = client("s3"), client("kms").create_key()["KeyMetadata"]["Arn"]
    run.make_bucket(client, BUCKET)
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    default = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}}
    s3.put_bucket_encryption(Bucket=BUCKET, ServerSideEncryptionConfiguration={"Rules": [default]})
    upload(client, MODEL, "wine-v1")
    upload(client, BROKEN, "wine-v1")
    upload(client, BROKEN, "truncated")
    upload(client, f"{REPOSITORY}1/model.onnx", "wine-v1")
    upload(client, f"{REPOSITORY}2/model.onnx", "wine-v2")
    return key


def upload(client, name, model, bucket=BUCKET, prefix=PREFIX):
    body = (MODELS / f"{model}.onnx").read_bytes()
    return client("s3").put_object(Bucket=bucket, Key=prefix + name, Body=body)


def publish(endpoint):
    """Publishes a manifest with a publisher's credentials."""
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": run.REGION}
    command = [run.ROOT / "target/debug/modelctl", "publish", MODELS / "wine-v2.onnx", uri(MANIFEST)]
    environment = os.environ | keys | {"AWS_ENDPOINT_URL": endpoint}
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)


class Sam:
    """Stack of the SAM template."""

    def __init__(self, release, endpoint, folder):
        self.stack = run.Stack(release / f"template-{run.ARCHITECTURE}.yaml", endpoint, folder)
        self.client = self.stack.client

    def deploy(self, key=None, kms=None, metrics="cloudwatch"):
        parameters = {"Metrics": metrics, "Timeout": TIMEOUT, "Monitoring": "false"}
        if key:
            parameters |= {"Bucket": BUCKET, "Prefix": PREFIX, "ModelKey": key}
        if kms:
            parameters["KmsKeyArn"] = kms
        self.stack.deploy(**parameters)
        return self.stack.function()["Configuration"]


class Terraform:
    """Configuration with Terraform's module."""

    def __init__(self, release, endpoint, folder):
        self.place = pathlib.Path(tempfile.mkdtemp(dir=folder))
        self.endpoint = endpoint
        terraform.clone(self.place, release)
        self.client = run.clients(endpoint)

    def deploy(self, key=None, kms=None, metrics="cloudwatch"):
        arguments = {"source": "./layer/deploy/terraform", "name": "fraud", "release": "dist/release"}
        arguments |= {"architecture": run.ARCHITECTURE, "metrics": metrics, "timeout": TIMEOUT, "monitoring": False}
        if key:
            arguments["model_uri"] = uri(key)
        if kms:
            arguments["kms_key_arn"] = kms
        self.place.joinpath("main.tf.json").write_text(json.dumps({"module": {"model": arguments}}))
        deployment = terraform.Deployment(self.endpoint, self.place)
        deployment.apply()
        return deployment.configuration()


class Cdk:
    """Stack with the CDK construct."""

    def __init__(self, release, endpoint, folder):
        self.release = release
        self.folder = folder
        self.client = run.clients(endpoint)

    def deploy(self, key=None, kms=None, metrics="cloudwatch"):
        features = {"release": str(self.release), "architecture": run.ARCHITECTURE, "timeout": TIMEOUT}
        features |= {"metrics": metrics, "bucket": BUCKET, "kms": kms, "key": key and PREFIX + key}
        output = pathlib.Path(tempfile.mkdtemp(dir=self.folder))
        subprocess.run(["node", run.ROOT / "target/cdk/role.mjs", json.dumps(features), output], check=True)
        assets = json.loads((output / "fraud.assets.json").read_text())["files"].values()
        places = [next(iter(asset["destinations"].values())) for asset in assets]
        (bucket,) = {place["bucketName"] for place in places}
        run.make_bucket(self.client, bucket)
        s3 = self.client("s3")
        for asset, place in zip(assets, places):
            s3.upload_file(output / asset["source"]["path"], bucket, place["objectKey"])
        stacks, functions = self.client("cloudformation"), self.client("lambda")
        template = (output / "fraud.template.json").read_text()
        stacks.create_stack(StackName="fraud", TemplateBody=template, Capabilities=["CAPABILITY_IAM"])
        stacks.get_waiter("stack_create_complete").wait(StackName="fraud", WaiterConfig={"Delay": 1})
        (function,) = functions.list_functions()["Functions"]
        return functions.get_function_configuration(FunctionName=function["FunctionName"], Qualifier="live")


def emulator(folder):
    return run.emulator(folder, "authorization:app", AUTH="true")


def check_own_bucket(release, folder):
    """Deploys the SAM template with a model in the bucket that it makes."""
    print("a model in the stack's bucket", flush=True)
    with emulator(folder) as endpoint:
        stack = Sam(release, endpoint, folder).stack
        stack.deploy(ModelKey=MODEL, Timeout=TIMEOUT, Monitoring="false")
        deployed = Deployed(stack.client, endpoint, stack.function()["Configuration"])
        bucket = stack.outputs()["ModelBucket"]
        check_document(deployed, bucket, "model/")
        upload(stack.client, MODEL, "wine-v1", bucket, "model/")
        check_run(deployed, folder)


def main():
    kind, release = {"sam": Sam, "terraform": Terraform, "cdk": Cdk}[sys.argv[1]], pathlib.Path(sys.argv[2]).resolve()
    with tempfile.TemporaryDirectory(prefix="role-test-") as scratch:
        folder = pathlib.Path(scratch)
        for name, zipped in (("layer", "model-sidecar"), ("function", "model-handler")):
            run.unpack((release / f"{zipped}-{run.ARCHITECTURE}.zip").as_uri(), folder / name)

        @contextlib.contextmanager
        def row(name, **features):
            """Deploys a row, and compares its role."""
            print(name, flush=True)
            with emulator(folder) as endpoint:
                deployment = kind(release, endpoint, folder)
                key = prepare(deployment.client)
                kms = key if features.pop("encrypted", False) else None
                deployed = Deployed(deployment.client, endpoint, deployment.deploy(kms=kms, **features))
                model = "key" in features
                check_document(deployed, bucket=BUCKET if model else None, key=kms if model else None)
                yield deployed

        for name, features in (
            ("the sample model", {}),
            ("the sample model with a KMS key", {"encrypted": True}),
            ("metrics in the log", {"metrics": "emf"}),
            ("without metrics", {"metrics": "none"}),
        ):
            with row(name, **features) as deployed:
                check_run(deployed, folder)
        if kind is Sam:
            check_own_bucket(release, folder)
        with row("a model without a KMS key", key=MODEL) as deployed, in_lab(deployed, folder) as function:
            function.logs(NEEDED["kms:Decrypt"][2])
        with row("an encrypted model", key=MODEL, encrypted=True) as deployed:
            check_run(deployed, folder)
            publish(deployed.endpoint)
            check_enough(deployed, folder)
            check_needed(deployed, folder)
            check_no_more(deployed)


if __name__ == "__main__":
    main()
