//! A bucket, models, and the program as a process.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use aws_sdk_s3::Client;
use lab::s3::S3Server;
use lab::seaweedfs::SeaweedFs;
use model_sidecar::manifest::Manifest;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// Key of the manifest in every test.
pub(crate) const MANIFEST: &str = "fraud/manifest.json";

/// S3 server with a bucket of its own.
pub(crate) struct Store {
    server: Server,
    pub(crate) bucket: String,
    /// Further variables of the program.
    pub(crate) variables: Vec<(String, String)>,
}

enum Server {
    Lab(S3Server),
    SeaweedFs(Arc<SeaweedFs>),
}

impl Store {
    pub(crate) async fn lab() -> Self {
        let s3 = S3Server::start().await.unwrap();
        s3.create_bucket("models");
        Self {
            server: Server::Lab(s3),
            bucket: "models".to_owned(),
            variables: Vec::new(),
        }
    }

    pub(crate) async fn seaweedfs() -> Self {
        let s3 = SeaweedFs::shared().await.unwrap();
        let bucket = s3.bucket();
        let created = s3.client().create_bucket().bucket(&bucket).send().await;
        created.unwrap();
        Self {
            server: Server::SeaweedFs(s3),
            bucket,
            variables: Vec::new(),
        }
    }

    pub(crate) fn s3(&self) -> &S3Server {
        match &self.server {
            Server::Lab(s3) => s3,
            Server::SeaweedFs(_) => panic!("the test is for the lab's S3"),
        }
    }

    pub(crate) fn client(&self) -> Client {
        match &self.server {
            Server::Lab(s3) => s3.client(),
            Server::SeaweedFs(s3) => s3.client(),
        }
    }

    pub(crate) fn env(&self) -> Vec<(String, String)> {
        match &self.server {
            Server::Lab(s3) => s3.env(),
            Server::SeaweedFs(s3) => s3.env(),
        }
    }

    pub(crate) fn uri(&self) -> String {
        format!("s3://{}/{MANIFEST}", self.bucket)
    }

    /// Content of an object, if it exists.
    pub(crate) async fn get(&self, key: &str) -> Option<Vec<u8>> {
        let get = self.client().get_object().bucket(&self.bucket).key(key);
        let object = get.send().await.ok()?;
        Some(object.body.collect().await.unwrap().to_vec())
    }

    /// The manifest, which the sidecar's parser accepts; every object that it names is there, with
    /// the declared content.
    pub(crate) async fn manifest(&self) -> Option<Manifest> {
        let bytes = self.get(MANIFEST).await?;
        let manifest = Manifest::parse(&bytes).unwrap();
        let mut objects = BTreeMap::new();
        for (_, version) in manifest.versions() {
            for file in &version.files {
                let key = format!("fraud/{}", version.path_of(file));
                objects.insert(key, file.digest.clone());
            }
        }
        for (key, digest) in objects {
            let object = self.get(&key).await;
            let object = object.unwrap_or_else(|| panic!("{key} is named and missing"));
            let mut sha256 = Sha256::new();
            sha256.update(&object);
            let hash = model_sidecar::ids::Digest::of(sha256);
            assert_eq!(hash, digest, "{key}");
        }
        Some(manifest)
    }

    /// Names of the current, the previous and the canary version.
    pub(crate) async fn state(&self) -> (String, Option<String>, Option<(String, f64)>) {
        let manifest = self.manifest().await.unwrap();
        let canary = manifest.canary();
        let canary = canary.map(|canary| (canary.version.to_string(), canary.percent));
        (
            manifest.current().0.to_string(),
            manifest.previous().map(|(name, _)| name.to_string()),
            canary,
        )
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_modelctl"));
        command.env_clear().args(arguments).envs(self.env());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts the program with `--json`.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(&[arguments, &["--json"]].concat())
            .spawn()
            .unwrap()
    }

    /// Runs the program with `--json`.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.spawn(arguments)).await
    }

    /// Runs the program, which must succeed, and returns its result.
    pub(crate) async fn ok(&self, arguments: &[&str]) -> Value {
        let ran = self.run(arguments).await;
        assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.errors);
        ran.result
    }

    /// Runs the program, which must fail with this exit code, and returns its errors.
    pub(crate) async fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let ran = self.run(arguments).await;
        assert_eq!(
            ran.code, code,
            "{arguments:?}: {}{}",
            ran.errors, ran.result
        );
        assert_eq!(ran.result["exit_code"], json!(code));
        ran.errors
    }

    /// Runs the program without `--json`, and returns what it prints.
    pub(crate) async fn text(&self, arguments: &[&str]) -> String {
        let child = self.command(arguments).spawn().unwrap();
        let output = tokio::task::spawn_blocking(|| child.wait_with_output());
        let output = output.await.unwrap().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    }
}

/// Outcome of a run.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) result: Value,
    pub(crate) errors: String,
}

impl Ran {
    pub(crate) async fn of(child: Child) -> Self {
        let output = tokio::task::spawn_blocking(|| child.wait_with_output());
        let output = output.await.unwrap().unwrap();
        Self {
            code: output.status.code().unwrap_or(-1),
            result: serde_json::from_slice(&output.stdout).unwrap_or_default(),
            errors: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Path of a model of the repository, as an argument.
pub(crate) fn model(name: &str) -> String {
    let models = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/models");
    models.join(name).to_str().unwrap().to_owned()
}

/// Option that names ONNX Runtime's library.
pub(crate) fn library() -> String {
    let library = lab::artifacts::onnxruntime().unwrap();
    format!("--onnxruntime={}", library.display())
}

/// File with the first rows of the wines, as JSON.
pub(crate) fn wines(folder: &Path, count: usize) -> String {
    let wine: Value = serde_json::from_slice(&std::fs::read(model("wine.json")).unwrap()).unwrap();
    let rows = wine["rows"].as_array().unwrap();
    let file = folder.join("wines.json");
    std::fs::write(&file, json!(rows[..count]).to_string()).unwrap();
    file.to_str().unwrap().to_owned()
}

/// A model with external data: its graph, and files with this many bytes of `seed`. It is valid for
/// a publisher that does not load it.
pub(crate) fn with_data(seed: u8, bytes: usize) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let name = "several-files.onnx";
    let copy = folder.path().join(name);
    std::fs::copy(model(&format!("external/{name}")), &copy).unwrap();
    let path = copy.to_str().unwrap().to_owned();
    for (index, external) in data_files(&path).iter().enumerate() {
        // One large file is enough.
        let length = if index == 0 { bytes } else { 100 };
        let content: Vec<u8> = (0..length)
            .map(|at| seed ^ at.to_le_bytes()[0] ^ at.to_le_bytes()[1])
            .collect();
        let file = folder.path().join(external);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
    }
    (folder, path)
}

/// Paths of a model's external data; the first is the large one of [`with_data`].
pub(crate) fn data_files(model: &str) -> Vec<String> {
    let file = std::fs::File::open(model).unwrap();
    let description = model_sidecar::onnx::Description::read(&file).unwrap();
    let external = description.external.iter();
    external.map(ToString::to_string).collect()
}

/// Arguments as the program gets them.
pub(crate) fn command_line(arguments: &[&str]) -> Vec<OsString> {
    let name = std::iter::once(&"modelctl");
    name.chain(arguments).map(OsString::from).collect()
}
