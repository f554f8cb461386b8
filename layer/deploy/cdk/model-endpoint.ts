// CDK construct with a function that serves an ONNX model: the layer, the handler, an alias, a function URL, a role, a
// log group, and the dashboard with its alarms. It needs aws-cdk-lib and constructs only; copy the file.
import { join } from "node:path";
import {
  aws_cloudwatch as cloudwatch,
  aws_codedeploy as codedeploy,
  aws_iam as iam,
  aws_lambda as lambda,
  aws_logs as logs,
  aws_s3 as s3,
  aws_s3_assets as assets,
  aws_sns as sns,
  ArnFormat,
  CfnStack,
  cx_api,
  Duration,
  RemovalPolicy,
  Stack,
} from "aws-cdk-lib";
import { Construct } from "constructs";

/** Name of the model in requests and metrics. */
const MODEL = "model";

/** Runtimes on Amazon Linux 2023. layer/build/runtimes.py writes the list. */
const RUNTIMES = ["provided.al2023", "python3.12", "python3.13", "python3.14", "nodejs22.x", "nodejs24.x", "dotnet10",
  "java8.al2023", "java11.al2023", "java17.al2023", "java21", "java25", "ruby3.3", "ruby3.4", "ruby4.0"];

export interface ModelEndpointProps {
  /** Folder with the zips and monitoring.template.json, as `make release` leaves it. */
  readonly release: string;
  /** Architecture of the function: X86_64 by default. */
  readonly architecture?: lambda.Architecture;
  /** Bucket with the model. By default the function serves the sample model in the handler's zip. */
  readonly bucket?: s3.IBucket;
  /** Key of a model or a manifest, or of a repository, which ends in `/`. Required with `bucket`. */
  readonly key?: string;
  /** Prefix of all keys that the function may read. The default is the folder of `key`, or the bucket if it has none. */
  readonly prefix?: string;
  /** Memory in MB: 1,769 by default, which is one vCPU. */
  readonly memorySize?: number;
  /** Maximum time of an invocation: 30 s by default. */
  readonly timeout?: Duration;
  /** Further variables of the sidecar, such as MODEL_REQUIRED. */
  readonly environment?: { readonly [name: string]: string };
  /** Days for which logs are kept: ONE_MONTH by default. */
  readonly logRetention?: logs.RetentionDays;
  /** Authorization of the function URL: AWS_IAM by default. */
  readonly urlAuth?: lambda.FunctionUrlAuthType;
  /** Provisioned concurrency of the alias. AWS rejects it with `shift`. */
  readonly provisioned?: number;
  /** Gradual shift of the alias to a new version. The alarms error-rate and rejected-version stop it. */
  readonly shift?: codedeploy.ILambdaDeploymentConfig;
  /** Makes the dashboard and the alarms: true by default. */
  readonly monitoring?: boolean;
  /** Topic that the alarms notify. */
  readonly alarmTopic?: sns.ITopic;
}

export class ModelEndpoint extends Construct {
  readonly function: lambda.Function;
  readonly layer: lambda.LayerVersion;
  /** The alias `live`, for callers and event sources. */
  readonly alias: lambda.Alias;
  readonly url: lambda.FunctionUrl;
  /** Prefix of the names of the alarms, which are in the nested stack. */
  readonly alarmPrefix: string;

  constructor(scope: Construct, id: string, props: ModelEndpointProps) {
    super(scope, id);
    // Without this flag, a changed layer publishes no version, and the alias keeps the earlier layer.
    this.node.setContext(cx_api.LAMBDA_RECOGNIZE_LAYER_VERSION, true);
    if ((props.bucket === undefined) !== (props.key === undefined)) {
      throw new Error("cannot make a model endpoint: bucket and key are given together, or neither is");
    }
    if (props.provisioned && props.shift) {
      throw new Error("cannot make a model endpoint: AWS rejects provisioned concurrency with a shift; give one of them");
    }
    const architecture = props.architecture ?? lambda.Architecture.X86_64;
    const arch = architecture === lambda.Architecture.ARM_64 ? "arm64" : "x86_64";
    const zip = (name: string) => lambda.Code.fromAsset(join(props.release, `${name}-${arch}.zip`));
    const memorySize = props.memorySize ?? 1769;

    this.layer = new lambda.LayerVersion(this, "Layer", {
      code: zip("model-sidecar"),
      compatibleArchitectures: [architecture],
      compatibleRuntimes: RUNTIMES.flatMap((name) => lambda.Runtime.ALL.find((runtime) => runtime.name === name) ?? []),
    });
    const logGroup = new logs.LogGroup(this, "Logs", {
      retention: props.logRetention ?? logs.RetentionDays.ONE_MONTH,
      removalPolicy: RemovalPolicy.DESTROY,
    });
    const environment = {
      MODEL_NAME: MODEL,
      MODEL_HANDLER: "attach",
      MODEL_URI: props.bucket ? props.bucket.s3UrlForObject(props.key) : "file:///var/task/sample/wine.onnx",
      ...props.environment,
    };
    this.function = new lambda.Function(this, "Function", {
      code: zip("model-handler"),
      handler: "bootstrap",
      runtime: lambda.Runtime.PROVIDED_AL2023,
      architecture,
      memorySize,
      timeout: props.timeout ?? Duration.seconds(30),
      layers: [this.layer],
      environment,
      logGroup,
      role: this.role(props, logGroup, environment),
      // Earlier versions stay, so that the alias can go back to one.
      currentVersionOptions: { removalPolicy: RemovalPolicy.RETAIN },
    });
    this.alias = new lambda.Alias(this, "Live", {
      aliasName: "live",
      version: this.function.currentVersion,
      provisionedConcurrentExecutions: props.provisioned,
    });
    this.url = this.alias.addFunctionUrl({ authType: props.urlAuth ?? lambda.FunctionUrlAuthType.AWS_IAM });
    this.alarmPrefix = `${this.function.functionName}-${environment.MODEL_NAME}-`;

    const monitoring = (props.monitoring ?? true) ? this.monitoring(props, memorySize, environment) : undefined;
    if (props.shift) {
      const group = new codedeploy.LambdaDeploymentGroup(this, "Shift", {
        alias: this.alias,
        deploymentConfig: props.shift,
        alarms: monitoring ? ["error-rate", "rejected-version"].map((key) => this.alarm(key)) : [],
      });
      if (monitoring) group.node.addDependency(monitoring);
    }
  }

  /** Role with each permission only where its feature is on. */
  private role(props: ModelEndpointProps, logGroup: logs.ILogGroup, environment: Record<string, string>): iam.Role {
    const role = new iam.Role(this, "Role", { assumedBy: new iam.ServicePrincipal("lambda.amazonaws.com") });
    logGroup.grantWrite(role);
    if ((environment.MODEL_METRICS ?? "cloudwatch") === "cloudwatch") {
      const namespace = environment.MODEL_METRICS_NAMESPACE ?? "ModelSidecar";
      role.addToPolicy(
        new iam.PolicyStatement({
          actions: ["cloudwatch:PutMetricData"],
          resources: ["*"],
          conditions: { StringEquals: { "cloudwatch:namespace": namespace } },
        }),
      );
    }
    if (props.bucket && props.key) {
      const prefix = props.prefix ?? props.key.slice(0, props.key.lastIndexOf("/") + 1);
      role.addToPolicy(
        new iam.PolicyStatement({
          actions: ["s3:GetObject", "s3:GetObjectVersion"],
          resources: [props.bucket.arnForObjects(`${prefix}*`)],
        }),
      );
      role.addToPolicy(
        new iam.PolicyStatement({
          actions: ["s3:ListBucket", "s3:ListBucketVersions"],
          resources: [props.bucket.bucketArn],
          conditions: { StringLike: { "s3:prefix": `${prefix}*` } },
        }),
      );
      props.bucket.encryptionKey?.grantDecrypt(role);
    }
    return role;
  }

  /** Nested stack with the generated template. */
  private monitoring(props: ModelEndpointProps, memorySize: number, environment: Record<string, string>): CfnStack {
    const template = new assets.Asset(this, "MonitoringTemplate", {
      path: join(props.release, "monitoring.template.json"),
    });
    return new CfnStack(this, "Monitoring", {
      templateUrl: template.httpUrl,
      parameters: {
        FunctionName: this.function.functionName,
        ModelName: environment.MODEL_NAME,
        MemorySize: String(memorySize),
        ...(environment.MODEL_METRICS_NAMESPACE && { Namespace: environment.MODEL_METRICS_NAMESPACE }),
        ...(props.alarmTopic && { AlarmTopicArn: props.alarmTopic.topicArn }),
      },
    });
  }

  /** Alarm of the nested stack. */
  private alarm(key: string): cloudwatch.IAlarm {
    const arn = Stack.of(this).formatArn({
      service: "cloudwatch",
      resource: "alarm",
      resourceName: this.alarmPrefix + key,
      arnFormat: ArnFormat.COLON_RESOURCE_NAME,
    });
    return cloudwatch.Alarm.fromAlarmArn(this, key, arn);
  }
}
