"""Translates the SAM template with rows of parameters, as CloudFormation does, and compares the resources.

    options.py

The emulator of run.py translates each template with the defaults, so that it deploys no shift of traffic. A row here
has what its parameters add to and remove from the stack, and values of properties. The rows name each parameter.
"""

import json
import logging
import os
import re
import sys

from cfnlint.api import lint
from samcli.yamlhelper import yaml_parse
from samtranslator.translator.transform import transform

import run

TEMPLATE = run.ROOT / "layer/deploy/template.yaml"
LINES = 150

SAMPLE = "file:///var/task/sample/wine.onnx"
ALIAS = {"Ref": "FunctionAliaslive"}
SHIFT = "Canary10Percent30Minutes"
KEY = "arn:aws:kms:eu-central-1:123456789012:key/1"
TOPIC = "arn:aws:sns:eu-central-1:123456789012:alarms"

DEFAULT = {"Layer", "Function", "FunctionVersion", "FunctionAliaslive", "Role", "LogGroup", "ModelBucket", "FunctionUrl"}
DEFAULT |= {"MonitoringStack", "output Url", "output Alias", "output Function", "output LogGroup", "output ModelBucket"}
DEFAULT |= {"output Dashboard", "output AlarmPrefix"}
URL = {"FunctionUrl", "output Url"}
API = {"HttpApi", "HttpApiApiGatewayDefaultStage", "ApiPermission", "output Api"}
BUCKET = {"ModelBucket", "output ModelBucket"}
MONITORING = {"MonitoringStack", "output Dashboard", "output AlarmPrefix"}
SCALING = {"ScalableTarget", "ScalingPolicy"}
CODE_DEPLOY = {"ServerlessDeploymentApplication", "FunctionDeploymentGroup", "CodeDeployServiceRole"}

# Places of properties.
VARIABLES = "Function.Properties.Environment.Variables"
GROUP = "FunctionDeploymentGroup.Properties"
NESTED = "MonitoringStack.Properties.Parameters"
CALL = "HttpApi.Properties.Body.paths./predict.post"
CONCURRENCY = "FunctionAliaslive.Properties.ProvisionedConcurrencyConfig"
UPDATE = "FunctionAliaslive.UpdatePolicy"

# Parameters; what they add and remove; values by their places; whether they publish a version of the function.
ROWS = (
    (
        {},
        (set(), set()),
        {
            "FunctionUrl.Properties": {"TargetFunctionArn": ALIAS, "AuthType": "AWS_IAM"},
            VARIABLES: {"MODEL_NAME": "model", "MODEL_HANDLER": "attach", "MODEL_METRICS": "cloudwatch", "MODEL_URI": SAMPLE},
            "Function.Properties.MemorySize": "1769",
            "Function.Properties.Timeout": "30",
            "LogGroup.Properties.RetentionInDays": "30",
            "ModelBucket.Properties.VersioningConfiguration": {"Status": "Enabled"},
            f"{NESTED}.AlarmTopicArn": "",
            CONCURRENCY: None,
            UPDATE: None,
        },
        False,
    ),
    (
        {"Access": "api"},
        (API, URL),
        {
            "HttpApi.Properties.Body.info.title": {"Ref": "AWS::StackName"},
            f"{CALL}.x-amazon-apigateway-auth.type": "AWS_IAM",
            f"{CALL}.x-amazon-apigateway-integration.uri": "arn:${AWS::Partition}:apigateway:${AWS::Region}:lambda:path/"
            "2015-03-31/functions/${FunctionAliaslive}/invocations",
            "ApiPermission.Properties.FunctionName": ALIAS,
            "ApiPermission.Properties.Principal": "apigateway.amazonaws.com",
        },
        False,
    ),
    ({"Access": "none"}, (set(), URL), {}, False),
    ({"ModelKey": "a.onnx"}, (set(), set()), {f"{VARIABLES}.MODEL_URI": "s3://${ModelBucket}/model/a.onnx"}, True),
    ({"ModelKey": "a.onnx", "Prefix": "x/"}, (set(), set()), {f"{VARIABLES}.MODEL_URI": "s3://${ModelBucket}/x/a.onnx"}, True),
    ({"ModelKey": "a.onnx", "Bucket": "b"}, (set(), BUCKET), {f"{VARIABLES}.MODEL_URI": "s3://b/model/a.onnx"}, True),
    ({"KmsKeyArn": KEY}, (set(), set()), {f"{VARIABLES}.MODEL_URI": SAMPLE}, False),
    (
        {"MemorySize": "512"},
        (set(), set()),
        {"Function.Properties.MemorySize": "512", f"{NESTED}.MemorySize": "512"},
        True,
    ),
    ({"Timeout": "9"}, (set(), set()), {"Function.Properties.Timeout": "9"}, True),
    ({"Metrics": "emf"}, (set(), set()), {f"{VARIABLES}.MODEL_METRICS": "emf"}, True),
    ({"LogRetentionDays": "7"}, (set(), set()), {"LogGroup.Properties.RetentionInDays": "7"}, False),
    ({"Monitoring": "false"}, (set(), MONITORING), {}, False),
    ({"AlarmTopic": TOPIC}, (set(), set()), {f"{NESTED}.AlarmTopicArn": TOPIC}, False),
    ({"Provisioned": "2"}, (set(), set()), {f"{CONCURRENCY}.ProvisionedConcurrentExecutions": "2"}, False),
    (
        {"Provisioned": "2", "ProvisionedMax": "9"},
        (SCALING, set()),
        {"ScalableTarget.Properties.MinCapacity": "2", "ScalableTarget.Properties.MaxCapacity": "9"},
        False,
    ),
    ({"ProvisionedMax": "9"}, (set(), set()), {}, False),
    (
        {"Shift": SHIFT},
        (CODE_DEPLOY, set()),
        {
            f"{GROUP}.DeploymentConfigName": f"CodeDeployDefault.Lambda{SHIFT}",
            f"{GROUP}.AlarmConfiguration.Enabled": True,
            f"{GROUP}.AlarmConfiguration.Alarms": [
                {"Name": "${Function}-model-error-rate"},
                {"Name": "${Function}-model-rejected-version"},
            ],
            f"{UPDATE}.CodeDeployLambdaAliasUpdate.DeploymentGroupName": {"Ref": "FunctionDeploymentGroup"},
        },
        False,
    ),
    (
        {"Shift": SHIFT, "Monitoring": "false"},
        (CODE_DEPLOY, MONITORING),
        {f"{GROUP}.DeploymentConfigName": f"CodeDeployDefault.Lambda{SHIFT}", f"{GROUP}.AlarmConfiguration": {}},
        False,
    ),
)
# Parameters, and whether the template's rule allows them.
ALLOWED = (({}, True), ({"Shift": SHIFT}, True), ({"Provisioned": "2"}, True), ({"Shift": SHIFT, "Provisioned": "2"}, False))

NO_VALUE = object()


def check(name, given, expected):
    if given != expected:
        sys.exit(f"{name}: got {given!r}, expected {expected!r}")


class Stack:
    """Template as it is deployed with parameters."""

    def __init__(self, text, parameters):
        template = yaml_parse(text)
        # Packaging replaces the local paths.
        for name, place in (("Layer", "ContentUri"), ("Function", "CodeUri")):
            template["Resources"][name]["Properties"][place] = "s3://bucket/key"
        declared = template["Parameters"]
        self.parameters = {name: str(one.get("Default")) for name, one in declared.items()} | parameters
        self.rules = template.pop("Rules")
        self.template = transform(template, parameters, None)
        self.conditions = {}
        for name, condition in self.template["Conditions"].items():
            self.conditions[name] = self.holds(condition)
        self.parts = {}
        for name, one in self.template["Resources"].items():
            self.add(re.sub(r"[0-9a-f]{10}$", "", name), one)
        for name, one in self.template["Outputs"].items():
            self.add(f"output {name}", one)

    def add(self, name, one):
        if self.conditions.get(one.pop("Condition", None), True):
            self.parts[name] = self.resolved(one)

    def holds(self, condition):
        ((name, argument),) = condition.items()
        if name == "Condition":
            return self.holds(self.template["Conditions"][argument])
        if name == "Fn::Equals":
            left, right = self.resolved(argument)
            return left == right
        return {"Fn::Not": lambda one: not one[0], "Fn::And": all}[name]([self.holds(one) for one in argument])

    def resolved(self, value):
        """Value with parameters and conditions replaced."""
        if isinstance(value, list):
            return [one for one in map(self.resolved, value) if one is not NO_VALUE]
        if not isinstance(value, dict):
            return value
        if list(value) == ["Ref"]:
            return NO_VALUE if value["Ref"] == "AWS::NoValue" else self.parameters.get(value["Ref"], value)
        if list(value) == ["Fn::If"]:
            condition, *branches = value["Fn::If"]
            return self.resolved(branches[not self.conditions[condition]])
        if list(value) == ["Fn::Sub"]:
            text, names = value["Fn::Sub"] if isinstance(value["Fn::Sub"], list) else (value["Fn::Sub"], {})
            names = self.parameters | self.resolved(names)
            return re.sub(r"\$\{(\w+)\}", lambda found: self.reference(names.get(found[1], found[0])), text)
        given = {name: self.resolved(one) for name, one in value.items()}
        return {name: one for name, one in given.items() if one is not NO_VALUE}

    def reference(self, value):
        return f"${{{value['Ref']}}}" if isinstance(value, dict) and "Ref" in value else str(value)

    def at(self, place):
        """Value at a place, or None."""
        value = self.parts
        for name in place.split("."):
            if not isinstance(value, dict) or name not in value:
                return None
            value = value[name]
        return value

    def is_allowed(self):
        for rule in self.rules.values():
            if self.holds(rule["RuleCondition"]):
                return all(self.holds(one["Assert"]) for one in rule["Assertions"])
        return True


def main():
    os.environ["AWS_DEFAULT_REGION"] = run.REGION
    # Of the translator, for each template.
    logging.disable(logging.WARNING)
    text = TEMPLATE.read_text(encoding="utf-8")
    if len(text.splitlines()) > LINES:
        sys.exit(f"{TEMPLATE}: {len(text.splitlines())} lines; the maximum is {LINES}")
    declared = set(yaml_parse(text)["Parameters"])
    check("the rows have each parameter", {name for parameters, *_ in ROWS for name in parameters}, declared)
    generated = json.loads((run.ROOT / "layer/deploy/alarms.json").read_text()).values()
    alarms = {one["AlarmName"].replace("${FunctionName}-${ModelName}", "${Function}-model") for one in generated}
    version = Stack(text, {}).parts["FunctionVersion"]
    for parameters, (added, removed), values, publishes in ROWS:
        stack = Stack(text, parameters)
        check(f"{parameters}: parts", set(stack.parts), DEFAULT - removed | added)
        for place, value in values.items():
            check(f"{parameters}: {place}", stack.at(place), value)
        # CloudFormation publishes a version if a property of the resource changes.
        check(f"{parameters}: publishes a version", stack.parts["FunctionVersion"] != version, publishes)
        for alarm in stack.at(f"{GROUP}.AlarmConfiguration.Alarms") or []:
            check(f"{parameters}: {alarm} exists", alarm["Name"] in alarms, True)
        print(f"ok: {parameters}", flush=True)
    for parameters, allowed in ALLOWED:
        check(f"{parameters} is allowed", Stack(text, parameters).is_allowed(), allowed)
    print("ok: the rule")
    shifted = Stack(text, {"Shift": SHIFT}).template
    found = [str(match) for match in lint(json.dumps(shifted)) if match.rule.severity == "error"]
    check("cfn-lint of a shift", found, [])
    print("ok: cfn-lint of a shift")


if __name__ == "__main__":
    main()
