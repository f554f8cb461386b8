//! The bucket: a manifest with its versions, and the fleet's requests.

use std::collections::BTreeMap;
use std::time::SystemTime;

use anyhow::Result;
use lab::s3::{RequestRecord, S3Server};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{PERCENT, RolloutStage};
use lab::soak::adder::{Size, adder};

pub(super) const BUCKET: &str = "models";
pub(super) const MANIFEST: &str = "adder/manifest.json";
/// Names of the versions; each adds its number, except the third, which is no model.
const VERSIONS: [&str; 3] = ["1", "2", "3"];

pub(super) struct Published {
    pub(super) s3: S3Server,
}

/// Requests of the fleet to S3.
pub(super) struct Costs {
    /// Number of polls of the manifest.
    pub(super) checks: f64,
    /// Number of model downloads.
    pub(super) transfers: f64,
    /// Bytes of the responses, in MB.
    pub(super) megabytes: f64,
}

impl Published {
    pub(super) async fn start() -> Result<Self> {
        let s3 = S3Server::start().await?;
        for name in VERSIONS {
            s3.put(BUCKET, &format!("adder/{name}/model.onnx"), content(name));
        }
        Ok(Self { s3 })
    }

    /// Publishes a manifest.
    pub(super) fn stage(&self, stage: RolloutStage) {
        let (current, previous) = match stage {
            RolloutStage::First | RolloutStage::Canary => ("1", None),
            RolloutStage::Good => ("2", Some("1")),
            RolloutStage::Bad => ("3", Some("2")),
        };
        let versions = VERSIONS.into_iter().map(|name| {
            let content = content(name);
            let file =
                json!({"path": "model.onnx", "size": content.len(), "sha256": sha256(&content)});
            (name.to_owned(), json!({ "files": [file] }))
        });
        let mut manifest = json!({
            "format": "model-sidecar/1",
            "current": current,
            "versions": versions.collect::<Value>(),
        });
        if let Some(previous) = previous {
            manifest["previous"] = previous.into();
        }
        if stage == RolloutStage::Canary {
            manifest["canary"] = json!({"version": "2", "percent": PERCENT});
        }
        self.s3.put(BUCKET, MANIFEST, manifest.to_string());
    }

    /// Requests since a time.
    pub(super) fn costs(&self, since: SystemTime) -> Costs {
        let requests = self.s3.requests().into_iter();
        let requests: Vec<RequestRecord> = requests.filter(|one| one.at >= since).collect();
        let count = |is_it: &dyn Fn(&RequestRecord) -> bool| {
            let count = requests.iter().filter(|one| is_it(one)).count();
            f64::from(u32::try_from(count).unwrap_or(u32::MAX))
        };
        let bytes: u64 = requests.iter().map(|one| one.sent).sum();
        Costs {
            checks: count(&|one| one.key == MANIFEST),
            transfers: count(&|one| one.key != MANIFEST && one.status == Some(200)),
            megabytes: f64::from(u32::try_from(bytes / 1024).unwrap_or(u32::MAX)) / 1024.0,
        }
    }

    /// Number of requests per second since a time.
    pub(super) fn per_second(&self, since: SystemTime) -> Vec<(f64, f64)> {
        let mut seconds = BTreeMap::new();
        for request in self.s3.requests() {
            if let Ok(time) = request.at.duration_since(since) {
                *seconds.entry(time.as_secs()).or_insert(0_u32) += 1;
            }
        }
        let last = seconds.keys().next_back().copied().unwrap_or_default();
        let number = |second| f64::from(u32::try_from(second).unwrap_or(u32::MAX));
        let count = |second| f64::from(seconds.get(&second).copied().unwrap_or_default());
        (0..=last)
            .map(|second| (number(second), count(second)))
            .collect()
    }
}

fn content(name: &str) -> Vec<u8> {
    match name {
        "1" => adder(Size::SMALL, 1),
        "2" => adder(Size::SMALL, 2),
        _ => b"This is not a model.\n".to_vec(),
    }
}

fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut digits = String::new();
    for byte in Sha256::digest(bytes) {
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}
