"""Attaches the layer to a function that is there, by the lines and commands of docs/deployment.md.

The lines for SAM become a template, which cfn-lint checks together with the examples for SAM, and SAM translates. The
lines for Terraform are those of an example, which terraform.py applies. The commands run on the emulator of
quickstart.py, and the function that they leave answers a request in the lab. The example of two functions with
one layer is deployed.
"""

import io
import json
import os
import re
import shutil
import subprocess
import zipfile

from samcli.yamlhelper import yaml_parse
from samtranslator.translator.transform import transform

import run

NAMES = {"BUCKET": "models", "KEY": "fraud/model.onnx", "FOLDER": "fraud", "NAME": "orders", "ROLE": "orders-role"}
NAMES |= {"ALIAS": "live", "VERSION": "2"}
URI = "s3://models/fraud/model.onnx"


def block(tool, language):
    """First block of this language after the name of the tool."""
    page = (run.ROOT / "docs/deployment.md").read_text(encoding="utf-8")
    section = re.search(r"^## An existing function\n(.*?)(?=^## )", page, re.MULTILINE | re.DOTALL)[1]
    return re.search(rf"^{tool}, .*?^```{language}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)[1]


def named(text, layer, **names):
    names = NAMES | {"LAYER_ARN": layer} | names
    return re.sub(rf"\b({'|'.join(names)})\b", lambda found: names[found[1]], text)


def check_terraform():
    """Looks the lines for Terraform up in the example."""
    example = (run.ROOT / "layer/deploy/terraform/examples/existing/main.tf").read_text(encoding="utf-8")
    lines = named(block("Terraform", "hcl"), "aws_lambda_layer_version.sidecar.arn", BUCKET="my-models")
    missing = [line for line in lines.splitlines() if line not in re.sub(r"\s+", " ", example)]
    run.check("Terraform's example has the lines", missing, [])


def check_sam(folder):
    """Checks the lines for SAM in the properties of a function."""
    layer = "arn:aws:lambda:eu-central-1:123456789012:layer:model-sidecar:1"
    properties = {"InlineCode": "def handler(event, context): return event", "Handler": "index.handler", "Runtime": "python3.13"}
    properties |= yaml_parse(named(block("SAM", "yaml"), layer))
    template = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Transform": "AWS::Serverless-2016-10-31",
        "Resources": {"Orders": {"Type": "AWS::Serverless::Function", "Properties": properties}},
    }
    path = folder / "attached.json"
    path.write_text(json.dumps(template))
    examples = sorted((run.ROOT / "layer/examples/sam").glob("*.yaml"))
    linted = subprocess.run([run.TOOLS / "cfn-lint", path, *examples], capture_output=True, text=True, check=False)
    run.check(f"cfn-lint accepts the lines for SAM and {len(examples)} examples", linted.stdout + linted.stderr, "")
    # The translator reads it.
    os.environ["AWS_DEFAULT_REGION"] = run.REGION
    resources = transform(template, {}, None)["Resources"]
    function = resources["Orders"]["Properties"]
    run.check("SAM adds the layer", function["Layers"], [layer])
    run.check("and the model", function["Environment"]["Variables"], {"MODEL_URI": URI})
    (policy,) = resources["OrdersRole"]["Properties"]["Policies"]
    (statement,) = policy["PolicyDocument"]["Statement"]
    run.check("and permission to read it", "s3:GetObject" in statement["Action"], True)
    run.check("in its bucket", "models" in json.dumps(statement["Resource"]), True)


def check_two_functions(shell):
    """Deploys the example of two functions with one layer."""
    text = (run.ROOT / "layer/examples/sam/two-functions.yaml").read_text(encoding="utf-8")
    text = text.replace("../../..", str(run.ROOT)).replace("../python", str(run.ROOT / "layer/examples/python"))
    template = shell.folder / "two-functions.yaml"
    template.write_text(text.replace("x86_64", run.architecture(shell.stack.template)))
    stack = run.Stack(template, shell.stack.endpoint, shell.folder, "two")
    stack.deploy(Bucket="models")
    functions = [one for one in stack.client("lambda").list_functions()["Functions"] if one["FunctionName"].startswith("two-")]
    models = sorted(one["Environment"]["Variables"]["MODEL_URI"] for one in functions)
    run.check("each function has its model", models, [URI, URI.replace("fraud", "prices")])
    run.check("both have one layer", len({layer["Arn"] for one in functions for layer in one["Layers"]}), 1)


def check_commands(shell, publish, share, *attach):
    """Runs the commands for a function in Python with an alias. The alias's version then answers."""
    client, functions = shell.stack.client, shell.stack.client("lambda")
    trust = {"Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "lambda.amazonaws.com"}}]}
    role = client("iam").create_role(RoleName=NAMES["ROLE"], AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.write(run.ROOT / "layer/examples/python/unix.py", "unix.py")
    functions.create_function(
        FunctionName="orders", Role=role, Runtime="python3.13", Handler="unix.handler", Code={"ZipFile": code.getvalue()}, Publish=True
    )
    functions.create_alias(FunctionName="orders", Name="live", FunctionVersion="1")
    shell.run(publish)
    (version,) = functions.list_layer_versions(LayerName="model-sidecar")["LayerVersions"]
    layer = version["LayerVersionArn"]
    for command in attach:
        shell.run(named(command, layer))
    function = functions.get_function_configuration(FunctionName="orders", Qualifier="live")
    run.check("the alias's version has the layer", [one["Arn"] for one in function["Layers"]], [layer])
    run.check("and the model", function["Environment"]["Variables"], {"MODEL_URI": URI})
    run.check("and timeout and memory", (function["Timeout"], function["MemorySize"]), (30, 1024))
    policy = client("iam").get_role_policy(RoleName=NAMES["ROLE"], PolicyName="model")["PolicyDocument"]
    run.check("and may read it", policy["Statement"][0]["Resource"], "arn:aws:s3:::models/fraud/*")
    shell.run(share)
    for region in ("eu-west-1", "us-east-1"):
        there = client("lambda", region_name=region)
        policy = json.loads(there.get_layer_version_policy(LayerName="model-sidecar", VersionNumber=1)["Policy"])
        condition = policy["Statement"][0]["Condition"]["StringEquals"]
        run.check(f"the organization may use the layer in {region}", condition, {"aws:PrincipalOrgID": "o-1a2b3c4d5e"})
    check_answer(shell, function, layer)


def check_answer(shell, function, layer):
    """Runs the version in the lab, with AWS's runtime client for Python, and compares a response with scikit-learn's."""
    client, folder = shell.stack.client, shell.folder / "attached"
    run.make_bucket(client, "models")
    model = (run.ROOT / "tests/models/wine-v2.onnx").read_bytes()
    client("s3").put_object(Bucket="models", Key="fraud/model.onnx", Body=model)
    arn, _, version = layer.rpartition(":")
    content = client("lambda").get_layer_version(LayerName=arn, VersionNumber=int(version))["Content"]
    run.unpack(content["Location"], folder / "layer")
    shutil.copytree(run.ROOT / "target/functions/awslambdaric", folder / "function")
    run.unpack(client("lambda").get_function(FunctionName="orders", Qualifier="live")["Code"]["Location"], folder / "function")
    bootstrap = folder / "function/bootstrap"
    bootstrap.write_text(f"#!/bin/sh\nexec python3 -m awslambdaric {function['Handler']}\n")
    bootstrap.chmod(0o755)
    with run.lab(folder, function, {"AWS_ENDPOINT_URL_S3": shell.stack.endpoint}.items()) as url:
        run.answers(url, "v2")
