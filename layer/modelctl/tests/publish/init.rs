//! `modelctl init`: the files are the templates of `layer/deploy`, with the answers.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::Store;

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path.as_ref())
        .unwrap_or_else(|error| panic!("{error}: {}", path.as_ref().display()))
}

/// Program, if it is on this machine.
fn tool(path: impl AsRef<Path>) -> Option<Command> {
    let version = Command::new(path.as_ref()).arg("--version").output().ok()?;
    version
        .status
        .success()
        .then(|| Command::new(path.as_ref()))
}

/// Arguments of `init` for a project in this form, with further options.
fn init<'a>(form: &'a str, project: &'a Path, release: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec!["init", form, project.to_str().unwrap()];
    all.extend([
        "--name",
        "fraud",
        "--model",
        "s3://models/fraud/manifest.json",
    ]);
    all.extend(["--memory", "3008", "--release", release.to_str().unwrap()]);
    all.extend(more);
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sam_project_is_the_template_with_the_answers() {
    let store = Store::lab().await;
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("deploy");
    let release = folder.path().join("release");
    let more = [
        "--access",
        "api",
        "--architecture",
        "arm64",
        "--set",
        "LogRetentionDays=7",
    ];
    let init = init("--sam", &project, &release, &more);
    let result = store.ok(&init).await;
    let next = result["next"].to_string();
    for command in [
        "make release ARCH=arm64",
        "modelctl publish model.onnx s3://models/fraud/manifest.json",
        "sam deploy",
    ] {
        assert!(next.contains(command), "{next}");
    }
    let expected = read(deploy().join("template.yaml"))
        .replace("../../dist/release/", "../release/")
        .replace("x86_64", "arm64");
    assert_eq!(read(project.join("template.yaml")), expected);
    assert_eq!(
        read(project.join("samconfig.toml")),
        "version = 0.1\n\n[default.deploy.parameters]\nstack_name = \"fraud\"\nresolve_s3 = true\n\
         capabilities = \"CAPABILITY_IAM CAPABILITY_AUTO_EXPAND\"\n\
         parameter_overrides = \"Bucket=\\\"models\\\" Prefix=\\\"fraud/\\\" ModelKey=\\\"manifest.json\\\" \
         MemorySize=\\\"3008\\\" Access=\\\"api\\\" LogRetentionDays=\\\"7\\\"\"\n"
    );
    let nested = "monitoring.template.json";
    assert!(expected.contains(nested));
    assert_eq!(read(project.join(nested)), read(deploy().join(nested)));

    // `make test-deploy` installs the linter.
    let linter =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/deploy-tools/bin/cfn-lint");
    if let Some(mut linter) = tool(linter) {
        let linted = linter.arg(project.join("template.yaml")).output().unwrap();
        let text = String::from_utf8_lossy(&linted.stdout);
        assert!(linted.status.success(), "{text}");
    }

    // Again, with the same answers and with others.
    assert_eq!(store.ok(&init).await["files"], serde_json::json!([]));
    let other = [&init[..], &["--timeout", "9"]].concat();
    let error = store.fails(1, &other).await;
    assert!(error.contains("samconfig.toml: it exists"), "{error}");
    let forced = store.ok(&[&other[..], &["--force"]].concat()).await;
    assert_eq!(forced["files"].as_array().unwrap().len(), 1);
    assert!(read(project.join("samconfig.toml")).contains("Timeout=\\\"9\\\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terraform_project_is_the_module_with_the_answers() {
    let store = Store::lab().await;
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("infra");
    let release = folder.path().join("dist/release");
    let more = [
        "--access",
        "none",
        "--set",
        "kms_key_arn=arn:aws:kms:eu-west-1:1:key/${x}",
    ];
    let init = init("--terraform", &project, &release, &more);
    store.ok(&init).await;
    let main = "\
module \"model\" {
  source       = \"./model-sidecar/terraform\"
  name         = \"fraud\"
  release      = \"../dist/release\"
  model_uri    = \"s3://models/fraud/manifest.json\"
  memory_size  = 3008
  function_url = false
  kms_key_arn  = \"arn:aws:kms:eu-west-1:1:key/$${x}\"
}

output \"url\" {
  value = module.model.url
}

output \"alias_arn\" {
  value = module.model.alias_arn
}
";
    assert_eq!(read(project.join("main.tf")), main);
    let module = |folder: &Path| -> BTreeSet<String> {
        let entries = fs::read_dir(folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let is_module = |name: &String| Path::new(name).extension() == Some("tf".as_ref());
        names.filter(is_module).collect()
    };
    let written = project.join("model-sidecar/terraform");
    let original = deploy().join("terraform");
    assert_eq!(module(&written), module(&original));
    let mut all = String::new();
    for name in module(&original) {
        let content = read(original.join(&name));
        assert_eq!(read(written.join(&name)), content, "{name}");
        all.push_str(&content);
    }
    for above in ["dashboard.json", "alarms.json"] {
        let path = format!("${{path.module}}/../{above}");
        assert!(all.contains(&path), "{above}");
        let written = project.join("model-sidecar").join(above);
        assert_eq!(read(written), read(deploy().join(above)), "{above}");
    }
    if let Some(mut terraform) = tool("terraform") {
        let format = terraform
            .args(["fmt", "-check", "-recursive"])
            .arg(&project);
        assert!(format.status().unwrap().success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cdk_project_is_the_construct_with_the_answers() {
    let store = Store::lab().await;
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("app");
    let release = folder.path().join("dist/release");
    let more = [
        "--timeout",
        "9",
        "--metrics",
        "emf",
        "--architecture",
        "arm64",
        "--set",
        "monitoring=false",
    ];
    let init = init("--cdk", &project, &release, &more);
    store.ok(&init).await;
    let app = r#"import { App, aws_lambda as lambda, aws_s3 as s3, CfnOutput, Duration, Stack } from "aws-cdk-lib";
import { ModelEndpoint } from "./model-endpoint.js";

const stack = new Stack(new App(), "fraud");
const endpoint = new ModelEndpoint(stack, "Model", {
  release: "../dist/release",
  architecture: lambda.Architecture.ARM_64,
  bucket: s3.Bucket.fromBucketName(stack, "Models", "models"),
  key: "fraud/manifest.json",
  memorySize: 3008,
  timeout: Duration.seconds(9),
  environment: { MODEL_METRICS: "emf" },
  monitoring: false,
});
new CfnOutput(stack, "Url", { value: endpoint.url.url });
new CfnOutput(stack, "Alias", { value: endpoint.alias.functionArn });
new CfnOutput(stack, "AlarmPrefix", { value: endpoint.alarmPrefix });
"#;
    assert_eq!(read(project.join("app.ts")), app);
    let construct = deploy().join("cdk/model-endpoint.ts");
    assert_eq!(read(project.join("model-endpoint.ts")), read(construct));
    assert!(read(project.join("tsconfig.json")).contains("[\"model-endpoint.ts\", \"app.ts\"]"));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_no_template_takes_are_errors() {
    let store = Store::lab().await;
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("project");
    let project = project.to_str().unwrap();
    for (arguments, code, message) in [
        (
            vec!["--cdk", project, "--access", "api"],
            1,
            "has a function URL",
        ),
        (
            vec!["--cdk", project, "--set", "bucket=b"],
            1,
            "it has release, ",
        ),
        (
            vec!["--cdk", project, "--set", "monitoring=1"],
            1,
            "it is a boolean",
        ),
        (
            vec!["--terraform", project, "--access", "api"],
            1,
            "no HTTP API",
        ),
        (
            vec!["--sam", project, "--set", "Memory=1"],
            1,
            "it has ModelKey",
        ),
        (
            vec!["--sam", project, "--memory", "1", "--set", "MemorySize=1"],
            1,
            "from another option",
        ),
        (vec!["--sam", project, "--release", "a b"], 1, "move one"),
    ] {
        let error = store
            .fails(code, &[&["init"], &arguments[..]].concat())
            .await;
        assert!(error.contains(message), "{error}");
    }
    for arguments in [
        vec!["init"],
        vec!["init", "--sam", project, "--name", "a b"],
        vec!["init", "--sam", project, "--terraform", project],
    ] {
        assert_eq!(store.run(&arguments).await.code, 2, "{arguments:?}");
    }
    assert!(!Path::new(project).exists());
}
