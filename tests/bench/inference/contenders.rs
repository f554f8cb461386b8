//! Contenders: processes that run throughout the bench, idle while another one is measured.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use lab::ports::Port;
use lab::process::Process;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::client::{Address, Client};
use super::subject::Subject;
use super::{BENTOML, FASTAPI, MOSEC};

/// Longer than any contender takes to start.
const START: Duration = Duration::from_secs(60);

/// Longer than any contender takes to stop.
const STOP: Duration = Duration::from_secs(20);

/// Paths of the programs that `make` has built.
#[derive(Debug)]
pub(super) struct InferenceArtifacts {
    root: PathBuf,
    made: PathBuf,
    python: String,
}

impl InferenceArtifacts {
    pub(super) fn find() -> Result<Self> {
        let root = lab::artifacts::workspace().clone();
        let artifacts = Self {
            made: root.join("target/bench/inference"),
            root,
            python: std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned()),
        };
        let wanted = [
            artifacts.sidecar(),
            artifacts.library(),
            artifacts.handler().join("bootstrap"),
            artifacts.made.join("bench-runs"),
            artifacts.codec(),
            artifacts.models().join("answers.json"),
            artifacts.python_function().join("bootstrap"),
            artifacts.nothing().join("bootstrap"),
            artifacts.within().join("bootstrap"),
            artifacts.within_image().join("bootstrap"),
        ];
        for file in wanted {
            ensure!(
                file.is_file(),
                "{} is missing: run `make bench-inference`",
                file.display()
            );
        }
        Ok(artifacts)
    }

    pub(super) fn layer(&self) -> PathBuf {
        self.root.join("dist/layer")
    }

    pub(super) fn handler(&self) -> PathBuf {
        self.root.join("dist/handler")
    }

    pub(super) fn sidecar(&self) -> PathBuf {
        self.layer().join("extensions/model-sidecar")
    }

    /// ONNX Runtime, the same file for the sidecar and the bare program.
    pub(super) fn library(&self) -> PathBuf {
        self.layer()
            .join("model-sidecar/lib/libonnxruntime.so.1.28.0")
    }

    pub(super) fn codec(&self) -> PathBuf {
        self.made.join("bench-codec")
    }

    /// The interpreter.
    pub(super) fn python(&self) -> &str {
        &self.python
    }

    /// Packages of the tutorials' function, ONNX Runtime among them.
    pub(super) fn packages(&self) -> PathBuf {
        self.made.join("packages")
    }

    /// A script of this bench.
    pub(super) fn script(&self, name: &str) -> PathBuf {
        self.root.join("tests/bench/inference").join(name)
    }

    pub(super) fn models(&self) -> PathBuf {
        self.made.join("models")
    }

    pub(super) fn python_function(&self) -> PathBuf {
        self.made.join("python")
    }

    /// The function that does nothing.
    pub(super) fn nothing(&self) -> PathBuf {
        self.made.join("nothing")
    }

    /// The function with the model in its process.
    pub(super) fn within(&self) -> PathBuf {
        self.made.join("within")
    }

    /// The same with the image's model.
    pub(super) fn within_image(&self) -> PathBuf {
        self.made.join("within-image")
    }

    /// Folder of an empty layer.
    pub(super) fn empty(&self) -> Result<PathBuf> {
        let empty = self.made.join("empty");
        std::fs::create_dir_all(&empty)?;
        Ok(empty)
    }
}

/// A server and its address.
pub(super) struct ServerProcess {
    pub(super) name: &'static str,
    pub(super) process: Process,
    pub(super) addresses: Vec<Address>,
    _port: Port,
    _folder: TempDir,
}

/// The sidecar as released, on both sockets, with all models and one thread per run.
pub(super) async fn sidecar(
    artifacts: &InferenceArtifacts,
    subjects: &[Subject],
) -> Result<ServerProcess> {
    let named = subjects.iter().map(|one| (one.name.to_owned(), one));
    sidecar_with(artifacts, &named.collect::<Vec<_>>()).await
}

/// The same with models under these names.
pub(super) async fn sidecar_with(
    artifacts: &InferenceArtifacts,
    models: &[(String, &Subject)],
) -> Result<ServerProcess> {
    let (port, folder) = (Port::lease()?, folder()?);
    let socket = folder.path().join("socket");
    let models = models
        .iter()
        .map(|(name, one)| format!("{name}=file://{}", one.file().display()));
    let process = Process::of(artifacts.sidecar())
        .env("ORT_DYLIB_PATH", artifacts.library())
        .env("MODELS", models.collect::<Vec<_>>().join(","))
        .env("MODEL_THREADS", "1")
        .env("MODEL_SOCKET", &socket)
        .env("MODEL_PORT", port.number().to_string())
        .env("MODEL_CACHE_DIR", folder.path().join("cache"))
        .env("MODEL_METRICS", "none")
        // Longer than the bench, so that no poll is due.
        .env("MODEL_REFRESH_INTERVAL", "1h")
        .start()?;
    process.wait_for(" ready ").await?;
    Ok(ServerProcess {
        name: "sidecar",
        process,
        addresses: vec![Address::Unix(socket), Address::Tcp(port.number())],
        _port: port,
        _folder: folder,
    })
}

/// Python's servers, as far as they could be installed.
pub(super) fn python_servers(artifacts: &InferenceArtifacts) -> Result<Vec<ServerProcess>> {
    let mut servers = vec![fastapi(artifacts)?];
    for (server, name) in [(bentoml(artifacts)?, BENTOML), (mosec(artifacts)?, MOSEC)] {
        match server {
            Some(server) => servers.push(server),
            None => println!("{name} could not be installed here and is omitted."),
        }
    }
    Ok(servers)
}

/// `FastAPI` on uvicorn, with a process per CPU.
fn fastapi(artifacts: &InferenceArtifacts) -> Result<ServerProcess> {
    let workers = std::thread::available_parallelism()?.to_string();
    let arguments = ["uvicorn", "fastapi_server:app", "--host", "127.0.0.1"];
    let more = [
        "--workers",
        &workers,
        "--log-level",
        "warning",
        "--no-access-log",
    ];
    python_server(
        artifacts,
        FASTAPI,
        "fastapi",
        &["-m"],
        &[&arguments[..], &more].concat(),
    )
}

/// `BentoML`, with a process per CPU; `None` if it could not be installed.
fn bentoml(artifacts: &InferenceArtifacts) -> Result<Option<ServerProcess>> {
    if !artifacts.made.join("bentoml/bentoml").is_dir() {
        return Ok(None);
    }
    let arguments = [
        "bentoml",
        "serve",
        "bentoml_server:Wine",
        "--host",
        "127.0.0.1",
    ];
    python_server(artifacts, BENTOML, "bentoml", &["-m"], &arguments).map(Some)
}

/// `mosec`, Rust in front of a Python process per CPU; `None` if it could not be installed.
fn mosec(artifacts: &InferenceArtifacts) -> Result<Option<ServerProcess>> {
    if !artifacts.made.join("mosec/mosec").is_dir() {
        return Ok(None);
    }
    let script = artifacts.script("mosec_server.py");
    let script = script.to_string_lossy();
    python_server(
        artifacts,
        MOSEC,
        "mosec",
        &[],
        &[
            &script,
            "--address",
            "127.0.0.1",
            "--max-request-size",
            "100000000",
        ],
    )
    .map(Some)
}

fn python_server(
    artifacts: &InferenceArtifacts,
    name: &'static str,
    packages: &str,
    options: &[&str],
    arguments: &[&str],
) -> Result<ServerProcess> {
    let (port, folder) = (Port::lease()?, folder()?);
    let path = artifacts.made.join(packages);
    let sources = artifacts.root.join("tests/bench/inference");
    let mut start = Process::of(which(&artifacts.python)?);
    for argument in options.iter().chain(arguments) {
        start = start.arg(argument);
    }
    let process = start
        .arg("--port")
        .arg(port.number().to_string())
        .directory(&sources)
        .env(
            "PYTHONPATH",
            format!("{}:{}", path.display(), sources.display()),
        )
        // mosec finds its program among the user's scripts.
        .env("PYTHONUSERBASE", &path)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PATH", std::env::var("PATH").unwrap_or_default())
        .env("HOME", folder.path())
        .env("BENTOML_HOME", folder.path())
        .env("BENTOML_DO_NOT_TRACK", "True")
        .env("MODELS", artifacts.models())
        .env("WORKERS", std::thread::available_parallelism()?.to_string())
        .start()?;
    let address = Address::Tcp(port.number());
    Ok(ServerProcess {
        name,
        process,
        addresses: vec![address],
        _port: port,
        _folder: folder,
    })
}

/// Path of a program, given by name or by path.
fn which(program: &str) -> Result<PathBuf> {
    let asked = Command::new(program)
        .args(["-c", "import sys; print(sys.executable)"])
        .output()
        .with_context(|| format!("cannot start {program}"))?;
    ensure!(asked.status.success(), "{program} does not work");
    Ok(PathBuf::from(String::from_utf8(asked.stdout)?.trim()))
}

/// Temporary folder of a contender.
pub(super) fn folder() -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("bench").tempdir()?)
}

impl Drop for ServerProcess {
    /// Stops the process in order: the workers of Python's servers would outlive a killed parent.
    fn drop(&mut self) {
        let _ = self.process.signal(Signal::SIGTERM);
        let asked = Instant::now();
        while self.process.ended().is_none() && asked.elapsed() < STOP {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl ServerProcess {
    /// Waits until the response is correct.
    pub(super) fn wait(&self, subject: &Subject) -> Result<()> {
        let started = Instant::now();
        let request = subject.plain("/predict");
        loop {
            let mut asked = Client::connect(&self.addresses[0]);
            let answered = asked
                .as_mut()
                .is_ok_and(|client| client.ask(&request).is_ok());
            if answered {
                return Ok(());
            }
            if let Some(status) = self.process.ended() {
                bail!(
                    "{} ended: {status}\n{}",
                    self.name,
                    self.process.log().text()
                );
            }
            ensure!(
                started.elapsed() < START,
                "{} does not respond:\n{}",
                self.name,
                self.process.log().text()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The model alone: `bench-runs`.
pub(super) struct Bare {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Bare {
    pub(super) fn start(artifacts: &InferenceArtifacts, subjects: &[Subject]) -> Result<Self> {
        let program: &Path = &artifacts.made.join("bench-runs");
        let mut child = Command::new(program)
            .arg(artifacts.library())
            .arg("1")
            .args(subjects.iter().map(Subject::for_bare))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let commands = child.stdin.take().context("no input")?;
        let answers = BufReader::new(child.stdout.take().context("no output")?);
        Ok(Self {
            child,
            commands,
            answers,
        })
    }

    /// Durations of `count` sequential runs, in microseconds.
    pub(super) fn times(&mut self, subject: &Subject, count: usize) -> Result<Vec<f64>> {
        let nanoseconds = self.command(&format!("times {} {count}", subject.name))?;
        Ok(nanoseconds.into_iter().map(|time| time / 1e3).collect())
    }

    /// Runs per second on this many threads.
    pub(super) fn rate(
        &mut self,
        subject: &Subject,
        threads: usize,
        time: Duration,
    ) -> Result<f64> {
        let ms = time.as_millis();
        let answer = self.command(&format!("load {} {threads} {ms}", subject.name))?;
        let [runs, nanoseconds] = answer[..] else {
            bail!("unexpected output of bench-runs: {answer:?}");
        };
        Ok(runs / nanoseconds * 1e9)
    }

    fn command(&mut self, command: &str) -> Result<Vec<f64>> {
        writeln!(self.commands, "{command}")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let numbers = line.split_whitespace().map(str::parse).collect();
        let numbers: Result<Vec<f64>, _> = numbers;
        let numbers = numbers.with_context(|| format!("{command}: {line}"))?;
        ensure!(!numbers.is_empty(), "bench-runs ended at {command}");
        Ok(numbers)
    }
}
