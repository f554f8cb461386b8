//! Contenders and their setup.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use lab::lambda::{Builder, Function};
use lab::link::Link;
use lab::s3::S3Server;
use lab::slow_folder::SlowFolder;
use serde_json::Value;

use super::models::Model;
use crate::network;

pub(super) const BUCKET: &str = "models";
/// File in `/tmp` with the trusted authorities, for all contenders.
pub(super) const AUTHORITIES: &str = "authorities.pem";
/// Names of the two folders on a fresh host.
const LAYER: &str = "layer";
const FUNCTION: &str = "function";
/// Longer than the slowest cold start.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Memory size that gives a function one CPU, in MB.
pub(super) const ONE_CPU_MB: u32 = 1_769;

/// A measured program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contender {
    /// The layer and the handler.
    Sidecar,
    /// The same, with the model that `modelctl optimize` produced.
    Optimised,
    /// The same, with the model that `modelctl optimize --quantize int8` produced.
    Int8,
    /// The same, with the model compressed with Zstandard.
    Compressed,
    /// The layer and the handler, which are the function's runtime in the sidecar, from a snapshot.
    Restored,
    /// The tutorials' function.
    Python,
    /// The bare program, which fetches and loads.
    Bare,
    /// The bare program, with the model's file in its own folder.
    Load,
}

impl Contender {
    pub(super) const ALL: [Self; 8] = [
        Self::Sidecar,
        Self::Optimised,
        Self::Int8,
        Self::Compressed,
        Self::Restored,
        Self::Python,
        Self::Bare,
        Self::Load,
    ];

    /// Contenders on a fresh host. The others differ in the model alone.
    pub(super) fn is_of_fresh_hosts(self) -> bool {
        matches!(self, Self::Sidecar | Self::Python | Self::Bare)
    }

    /// Returns `true` if the contender can run the model.
    pub(super) fn takes(self, model: &Model) -> bool {
        let is_of_large_models = matches!(self, Self::Optimised | Self::Int8 | Self::Compressed);
        !is_of_large_models || model.is_optimised()
    }

    pub(super) fn is_sidecar(self) -> bool {
        !matches!(self, Self::Python | Self::Bare | Self::Load)
    }

    /// Compares a response with that of ONNX Runtime in Python, which runs the same model.
    pub(super) fn check(self, model: &Model, answer: &Value) -> Result<()> {
        match self {
            Self::Int8 => model.check_quantized(answer),
            _ => model.check(answer),
        }
    }

    /// Key of the model's file for the contender.
    pub(super) fn key(self, model: &Model) -> String {
        match self {
            Self::Optimised => model.optimised(),
            Self::Int8 => model.quantized(),
            Self::Compressed => model.compressed(),
            _ => model.key(),
        }
    }

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Sidecar => "sidecar",
            Self::Optimised => "optimised",
            Self::Int8 => "int8",
            Self::Compressed => "zst",
            Self::Restored => "snapshot",
            Self::Python => "python",
            Self::Bare => "bare",
            Self::Load => "bare load",
        }
    }

    /// Path of the API call that marks readiness, and its caller.
    pub(super) fn ready_call(self) -> (&'static str, &'static str) {
        match self {
            Self::Sidecar | Self::Optimised | Self::Int8 | Self::Compressed => {
                ("model-sidecar", "/event/next")
            }
            _ => ("runtime", "/invocation/next"),
        }
    }
}

/// Paths of the programs that `make` has built.
#[derive(Debug)]
pub(super) struct ColdstartArtifacts {
    pub(super) layer: PathBuf,
    pub(super) handler: PathBuf,
    /// `target/bench/coldstart`: `models`, `python`, `bare`, and `empty`, an empty layer.
    made: PathBuf,
}

impl ColdstartArtifacts {
    pub(super) fn find() -> Result<Self> {
        let root = lab::artifacts::workspace();
        let made = root.join("target/bench/coldstart");
        let artifacts = Self {
            layer: root.join("dist/layer"),
            handler: root.join("dist/handler"),
            made,
        };
        let wanted = [
            artifacts.sidecar(),
            artifacts.handler.join("bootstrap"),
            artifacts.made.join("bare/bootstrap"),
            artifacts.open(),
            artifacts.made.join("python/bootstrap"),
        ];
        for file in wanted {
            ensure!(
                file.is_file(),
                "{} is missing: run `make bench-coldstart`",
                file.display()
            );
        }
        std::fs::create_dir_all(artifacts.made.join("empty"))?;
        Ok(artifacts)
    }

    pub(super) fn sidecar(&self) -> PathBuf {
        self.layer.join("extensions/model-sidecar")
    }

    /// Program that starts ONNX Runtime alone.
    pub(super) fn open(&self) -> PathBuf {
        self.made.join("bare/bench-open")
    }

    /// ONNX Runtime as the layer has it.
    pub(super) fn library(&self) -> PathBuf {
        self.made.join("bare/libonnxruntime.so.1.28.0")
    }

    pub(super) fn models(&self) -> PathBuf {
        self.made.join("models")
    }

    /// Layer and function of a contender.
    pub(super) fn folders(&self, contender: Contender) -> (PathBuf, PathBuf) {
        let empty = self.made.join("empty");
        let bare = self.made.join("bare");
        match contender {
            Contender::Python => (empty, self.made.join("python")),
            Contender::Bare => (empty, bare),
            Contender::Load => (self.models(), bare),
            _ => (self.layer.clone(), self.handler.clone()),
        }
    }
}

/// Conditions under which all contenders are measured.
pub(super) struct Setting {
    pub(super) name: &'static str,
    pub(super) s3: Arc<S3Server>,
    /// Link between the environments and S3.
    pub(super) link: Option<Arc<Link>>,
    pub(super) memory_mb: u32,
    /// `true` if memory and CPU are limited to the memory size.
    pub(super) limited: bool,
    /// Bytes per second at which the files of layer and function arrive, from an empty page cache;
    /// `None` if they are in the page cache.
    pub(super) file_speed: Option<u64>,
    pub(super) repetitions: usize,
}

impl Setting {
    /// Returns `true` if the contender is measured with the model.
    pub(super) fn has(&self, contender: Contender, model: &Model) -> bool {
        // The files of a layer are the same for all models.
        let is_measured = contender.is_of_fresh_hosts() && !model.is_optimised();
        contender.takes(model) && (self.file_speed.is_none() || is_measured)
    }

    /// Layer and function as they are on a host that has not run the function before; `None` if
    /// they are in the page cache.
    pub(super) fn slow_folder(
        &self,
        contender: Contender,
        artifacts: &ColdstartArtifacts,
    ) -> Result<Option<SlowFolder>> {
        let (layer, function) = artifacts.folders(contender);
        let folders = [(LAYER, &*layer), (FUNCTION, &*function)];
        let mount = |speed| SlowFolder::mount(&folders, speed);
        Ok(self.file_speed.map(mount).transpose()?)
    }

    /// Configures a contender with a model, with layer and function in `slow`, if given.
    pub(super) async fn function(
        &self,
        contender: Contender,
        model: &Model,
        artifacts: &ColdstartArtifacts,
        slow: Option<&SlowFolder>,
    ) -> Result<Builder> {
        let s3 = &self.s3;
        let url = match &self.link {
            None => s3.url(),
            Some(link) => link.url_of(s3),
        };
        let (layer, function) = match slow {
            None => artifacts.folders(contender),
            Some(slow) => (slow.folder(LAYER), slow.folder(FUNCTION)),
        };
        // The sidecar derives the same number of threads from its memory size.
        let threads = self.memory_mb.div_ceil(ONE_CPU_MB).to_string();
        let builder = Function::of(&layer, &function).envs(s3.env());
        let builder = match contender {
            Contender::Sidecar
            | Contender::Optimised
            | Contender::Int8
            | Contender::Compressed
            | Contender::Restored => {
                builder
                    .env(
                        "MODEL_URI",
                        format!("s3://{BUCKET}/{}", contender.key(model)),
                    )
                    .env("MODEL_PORT", "0")
                    // The bench runs no CloudWatch.
                    .env("MODEL_METRICS", "emf")
            }
            Contender::Python => builder
                .env("MODEL_BUCKET", BUCKET)
                .env("MODEL_KEY", model.key()),
            Contender::Bare => builder.env("BARE_THREADS", threads).env(
                "BARE_URL",
                network::signed(s3, &url, BUCKET, &model.key()).await?,
            ),
            Contender::Load => builder
                .env("BARE_THREADS", threads)
                .env("BARE_FILE", format!("/opt/{}", model.key())),
        };
        let builder = match contender {
            Contender::Restored => builder.snap_start().env("MODEL_HANDLER", "attach"),
            _ => builder,
        };
        Ok(builder
            .env("AWS_ENDPOINT_URL_S3", url)
            .env("SSL_CERT_FILE", format!("/tmp/{AUTHORITIES}"))
            .env("AWS_CA_BUNDLE", format!("/tmp/{AUTHORITIES}"))
            .timeout(TIMEOUT)
            .memory_mb(self.memory_mb)
            .limit_resources(self.limited)
            .max_environments(1))
    }
}

/// Returns `true` if a source of the extension has changed since the binary was staged.
pub(crate) fn is_stale(binary: &Path) -> bool {
    fn newest(path: &Path) -> Option<SystemTime> {
        if !path.is_dir() {
            return std::fs::metadata(path).ok()?.modified().ok();
        }
        let entries = std::fs::read_dir(path).ok()?.flatten();
        entries.filter_map(|entry| newest(&entry.path())).max()
    }
    newest(&lab::artifacts::workspace().join("extension/src")) > newest(binary)
}
