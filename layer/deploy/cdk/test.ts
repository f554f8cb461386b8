// `make test-cdk`: synthesizes stacks with the construct, checks their templates, and runs cdk-nag on them.
import assert from "node:assert/strict";
import { copyFileSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import {
  App,
  aws_codedeploy as codedeploy,
  aws_lambda as lambda,
  aws_s3 as s3,
  aws_sns as sns,
  cx_api,
  Stack,
  Validations,
} from "aws-cdk-lib";
import { Match, Template } from "aws-cdk-lib/assertions";
import { AwsSolutionsChecks } from "cdk-nag";
import { ModelEndpoint, type ModelEndpointProps } from "./model-endpoint.js";

/** Makes a release whose zips contain their names, except for `changed`: a synthesis reads their names and digests. */
function makeRelease(changed?: string): string {
  const folder = mkdtempSync(join(tmpdir(), "model-endpoint-"));
  for (const name of ["model-sidecar", "model-handler"]) {
    for (const arch of ["x86_64", "arm64"]) {
      writeFileSync(join(folder, `${name}-${arch}.zip`), name === changed ? "changed" : `${name} ${arch}`);
    }
  }
  copyFileSync(process.env.MONITORING_TEMPLATE!, join(folder, "monitoring.template.json"));
  return folder;
}

const release = makeRelease();

function stack(make: (stack: Stack) => Partial<ModelEndpointProps> = () => ({}), app = new App()) {
  const stack = new Stack(app, "fraud", { env: { account: "123456789012", region: "eu-central-1" } });
  const endpoint = new ModelEndpoint(stack, "Model", { release, ...make(stack) });
  return { app, stack, endpoint, template: () => Template.fromStack(stack) };
}

const fromBucket = (stack: Stack): Partial<ModelEndpointProps> => ({
  bucket: s3.Bucket.fromBucketName(stack, "Models", "models"),
  key: "fraud/manifest.json",
});

test("a release is enough", () => {
  const template = stack().template();
  template.hasResourceProperties("AWS::Lambda::Function", {
    Runtime: "provided.al2023",
    MemorySize: 1769,
    Environment: { Variables: { MODEL_URI: "file:///var/task/sample/wine.onnx", MODEL_HANDLER: "attach" } },
  });
  template.hasResourceProperties("AWS::Lambda::LayerVersion", {
    CompatibleRuntimes: Match.arrayWith(["provided.al2023", "python3.14", "nodejs24.x", "ruby4.0"]),
  });
  template.hasResourceProperties("AWS::Lambda::Alias", { Name: "live" });
  template.hasResourceProperties("AWS::Lambda::Url", { AuthType: "AWS_IAM" });
  template.hasResourceProperties("AWS::CloudFormation::Stack", {
    Parameters: { ModelName: "model", MemorySize: "1769" },
  });
  const policies = JSON.stringify(template.findResources("AWS::IAM::Policy"));
  assert(!policies.includes("s3:"), "the sample model needs no permission on S3");
});

test("an architecture applies to layer and function", () => {
  const { template } = stack(() => ({ architecture: lambda.Architecture.ARM_64 }));
  template().hasResourceProperties("AWS::Lambda::Function", { Architectures: ["arm64"] });
  template().hasResourceProperties("AWS::Lambda::LayerVersion", { CompatibleArchitectures: ["arm64"] });
});

test("permissions are limited to the folder of the key", () => {
  const { template } = stack(fromBucket);
  template().hasResourceProperties("AWS::Lambda::Function", {
    Environment: { Variables: { MODEL_URI: "s3://models/fraud/manifest.json" } },
  });
  template().hasResourceProperties("AWS::IAM::Policy", {
    PolicyDocument: {
      Statement: Match.arrayWith([
        Match.objectLike({
          Action: ["s3:GetObject", "s3:GetObjectVersion"],
          Resource: { "Fn::Join": ["", ["arn:", { Ref: "AWS::Partition" }, ":s3:::models/fraud/*"]] },
        }),
        Match.objectLike({
          Action: ["s3:ListBucket", "s3:ListBucketVersions"],
          Condition: { StringLike: { "s3:prefix": "fraud/*" } },
        }),
      ]),
    },
  });
});

test("a changed layer, handler, variable, memory size or architecture publishes a version", () => {
  const version = (props: Partial<ModelEndpointProps>) =>
    Object.keys(stack(() => props).template().findResources("AWS::Lambda::Version"))[0];
  const first = version({});
  assert.equal(version({ release: makeRelease() }), first);
  assert.notEqual(version({ release: makeRelease("model-sidecar") }), first);
  assert.notEqual(version({ release: makeRelease("model-handler") }), first);
  assert.notEqual(version({ environment: { MODEL_REQUIRED: "true" } }), first);
  assert.notEqual(version({ memorySize: 512 }), first);
  assert.notEqual(version({ architecture: lambda.Architecture.ARM_64 }), first);
});

test("metrics in the log need no permission", () => {
  const { template } = stack(() => ({ environment: { MODEL_METRICS: "emf" } }));
  assert(!JSON.stringify(template().findResources("AWS::IAM::Policy")).includes("cloudwatch:"));
});

test("alarms notify the topic, and stop a shift", () => {
  const { template, stack: made, endpoint } = stack((stack) => ({
    alarmTopic: sns.Topic.fromTopicArn(stack, "Alarms", "arn:aws:sns:eu-central-1:123456789012:alarms"),
    shift: codedeploy.LambdaDeploymentConfig.CANARY_10PERCENT_30MINUTES,
  }));
  template().hasResourceProperties("AWS::CloudFormation::Stack", {
    Parameters: { AlarmTopicArn: "arn:aws:sns:eu-central-1:123456789012:alarms" },
  });
  const groups = template().findResources("AWS::CodeDeploy::DeploymentGroup");
  const [group] = Object.values(groups);
  const generated = readFileSync(join(release, "monitoring.template.json"), "utf8");
  const alarms = group.Properties.AlarmConfiguration.Alarms;
  assert.equal(alarms.length, 2);
  for (const key of ["error-rate", "rejected-version"]) {
    assert(JSON.stringify(alarms).includes(`-model-${key}`), key);
    assert(generated.includes(`-${key}"`), `${key} is an alarm of the generated template`);
  }
  const [name] = Object.keys(template().findResources("AWS::Lambda::Function"));
  assert.deepEqual(made.resolve(endpoint.alarmPrefix), { "Fn::Join": ["", [{ Ref: name }, "-model-"]] });
});

test("monitoring is optional", () => {
  stack(() => ({ monitoring: false })).template().resourceCountIs("AWS::CloudFormation::Stack", 0);
});

test("wrong combinations are rejected", () => {
  assert.throws(() => stack(() => ({ key: "fraud/model.onnx" })), /bucket and key/);
  const shift = codedeploy.LambdaDeploymentConfig.ALL_AT_ONCE;
  assert.throws(() => stack(() => ({ provisioned: 1, shift })), /provisioned concurrency/);
});

test("the lines of docs/deployment.md attach the layer to a function", () => {
  const stack = new Stack(new App(), "orders");
  const bucket = s3.Bucket.fromBucketName(stack, "Models", "models");
  const orders = new lambda.Function(stack, "Orders", {
    code: lambda.Code.fromInline("def handler(event, context): pass"),
    handler: "index.handler",
    runtime: lambda.Runtime.PYTHON_3_13,
  });

  const arn = "arn:aws:lambda:eu-central-1:123456789012:layer:model-sidecar:1";
  orders.addLayers(lambda.LayerVersion.fromLayerVersionArn(stack, "Sidecar", arn));
  orders.addEnvironment("MODEL_URI", bucket.s3UrlForObject("fraud/model.onnx"));
  bucket.grantRead(orders, "fraud/*");

  const template = Template.fromStack(stack);
  template.hasResourceProperties("AWS::Lambda::Function", {
    Layers: [arn],
    Environment: { Variables: { MODEL_URI: "s3://models/fraud/model.onnx" } },
  });
  assert(JSON.stringify(template.findResources("AWS::IAM::Policy")).includes("models/fraud/*"));
});

/** Rules of cdk-nag that the endpoint violates, with these acknowledged. */
function violations(acknowledged: [id: string, reason: string][]): string[] {
  const app = new App({ context: { [cx_api.FAIL_SYNTH_ON_VALIDATION_ERRORS_CONTEXT]: false } });
  const { endpoint } = stack(fromBucket, app);
  for (const [id, reason] of acknowledged) Validations.of(endpoint).acknowledge({ id, reason });
  Validations.of(app).addPlugins(new AwsSolutionsChecks(app));
  const { directory } = app.synth();
  const report = JSON.parse(readFileSync(join(directory, cx_api.VALIDATION_REPORT_FILE), "utf8"));
  return report.pluginReports.flatMap((plugin: { violations: { ruleName: string }[] }) =>
    plugin.violations.map((violation) => violation.ruleName),
  );
}

test("cdk-nag finds nothing but wildcards with a reason", () => {
  const acknowledged: [id: string, reason: string][] = [
    ["AwsSolutions-IAM5[Resource::*]", "PutMetricData has no resources; a condition names the namespace"],
    ["AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:s3:::models/fraud/*]", "the objects below the model's folder"],
  ];
  assert.deepEqual(violations([]).sort(), acknowledged.map(([id]) => id).sort());
  assert.deepEqual(violations(acknowledged), []);
});
