//! Several processes that share a cache directory.
//!
//! They download the same and different versions in parallel. One process is killed, and no other reads a wrong byte.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};

use lab::gate::Gate;
use lab::s3::{Rule, S3Server};
use model_sidecar::cache::{Cache, CacheSettings};
use model_sidecar::clock::{SystemClock, Thaws};
use model_sidecar::fetch::{self, Compression, PartLimits};
use model_sidecar::source::Opened;

use crate::support::download::{BUCKET, MB, SIZE, bytes, expected, source};
use crate::support::until;

/// Environment variables of a process.
const DIRECTORY: &str = "SHARED_CACHE_DIRECTORY";
const SERVER: &str = "SHARED_CACHE_SERVER";
const KEY: &str = "SHARED_CACHE_KEY";
const SEED: &str = "SHARED_CACHE_SEED";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs in the processes that the test below starts"]
async fn one_process() {
    let variable = |name: &str| std::env::var(name).unwrap();
    let settings = CacheSettings {
        is_shared: Some(true),
        ..CacheSettings::default()
    };
    let cache = Cache::open_with(Path::new(&variable(DIRECTORY)), &settings).unwrap();
    let source = source(&variable(SERVER), &variable(KEY));
    let Opened::Object(object) = fetch::open(&*source, &cache, None).await.unwrap() else {
        panic!("nothing is known")
    };
    let request = fetch::FetchRequest {
        source: &*source,
        object,
        expected: None,
        compression: Compression::None,
        growing: None,
    };
    let context = fetch::FetchContext {
        cache: &cache,
        parts: PartLimits {
            part_bytes: MB,
            max_connections: 3,
        },
        thaws: &Thaws::default(),
        clock: &SystemClock,
    };
    let fetched = fetch::fetch(request, context).await.unwrap();
    let seed = variable(SEED).parse().unwrap();
    assert!(fs::read(fetched.file.path()).unwrap() == bytes(seed));
}

struct SharedDirectory {
    s3: S3Server,
    directory: tempfile::TempDir,
}

impl SharedDirectory {
    /// Starts a process that downloads the file of this number.
    fn start(&self, seed: u64) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact"])
            .arg("sources::shared_cache::one_process")
            .env(DIRECTORY, self.directory.path())
            .env(SERVER, self.s3.url())
            .env(KEY, key(seed))
            .env(SEED, seed.to_string())
            .spawn()
            .unwrap()
    }

    fn has(&self, folder: &str) -> usize {
        let folder = self.directory.path().join(folder);
        fs::read_dir(folder).into_iter().flatten().count()
    }

    fn assert_has(&self, seeds: &[u64]) {
        assert_eq!(self.has("files"), seeds.len());
        for seed in seeds {
            let digest = expected(&bytes(*seed)).digest;
            let file = self.directory.path().join(format!("files/{digest}.onnx"));
            assert!(fs::read(file).unwrap() == bytes(*seed), "{seed}");
        }
    }
}

fn key(seed: u64) -> String {
    format!("{seed}.onnx")
}

async fn succeeds(mut process: Child) {
    let status = tokio::task::spawn_blocking(move || process.wait());
    assert!(status.await.unwrap().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_downloads_survive_a_killed_process() {
    let shared = SharedDirectory {
        s3: S3Server::start().await.unwrap(),
        directory: tempfile::tempdir().unwrap(),
    };
    for seed in 1..=3 {
        shared.s3.put(BUCKET, &key(seed), bytes(seed));
    }
    // All processes are in their first part at the same time.
    let (others, slow) = (Gate::new(), Gate::new());
    for (seed, gate) in [(1, &others), (2, &others), (3, &slow)] {
        let stalls = Rule::on("GET").key(&key(seed)).stall_after(MB / 2, gate);
        shared.s3.fail(stalls);
    }
    let processes = [1, 1, 2].map(|seed| shared.start(seed));
    let mut killed = shared.start(3);
    // Three connections each.
    others.reached(3 * 3).await.unwrap();
    slow.reached(3).await.unwrap();
    until("all write", || shared.has("partials") == 4).await;
    assert_eq!(shared.has("files"), 0);
    others.open();
    for process in processes {
        succeeds(process).await;
    }
    shared.assert_has(&[1, 2]);
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_eq!(shared.has("partials"), 1, "the partial download is left");

    slow.open();
    let before = shared.s3.requests().len();
    succeeds(shared.start(3)).await;
    shared.assert_has(&[1, 2, 3]);
    let sent = |request: &lab::s3::RequestRecord| request.sent;
    assert!(shared.s3.requests()[before..].iter().map(sent).sum::<u64>() >= SIZE);
    assert_eq!(
        shared.has("partials"),
        1,
        "the partial download is not adopted"
    );
}
