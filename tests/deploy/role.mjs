// role.mjs FEATURES OUTPUT: synthesizes a stack with the CDK construct and the features of role.py.
//
// Runs in the folder of cdk.sh, next to the compiled construct.
import {
  App,
  aws_kms as kms,
  aws_lambda as lambda,
  aws_s3 as s3,
  DefaultStackSynthesizer,
  Duration,
  Stack,
} from "aws-cdk-lib";
import { ModelEndpoint } from "./dist/model-endpoint.js";

const features = JSON.parse(process.argv[2]);
const app = new App({ outdir: process.argv[3] });
const stack = new Stack(app, "fraud", {
  env: { account: "123456789012", region: "eu-central-1" },
  synthesizer: new DefaultStackSynthesizer({ generateBootstrapVersionRule: false }),
});
const encryptionKey = features.kms ? kms.Key.fromKeyArn(stack, "Key", features.kms) : undefined;
const bucket = s3.Bucket.fromBucketAttributes(stack, "Models", { bucketName: features.bucket, encryptionKey });
new ModelEndpoint(stack, "Model", {
  release: features.release,
  architecture: features.architecture === "arm64" ? lambda.Architecture.ARM_64 : lambda.Architecture.X86_64,
  environment: { MODEL_METRICS: features.metrics },
  timeout: Duration.seconds(features.timeout),
  monitoring: false,
  ...(features.key && { bucket, key: features.key }),
});
app.synth();
