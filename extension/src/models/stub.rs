//! A loaded model for tests, whose runs are a closure.

use sha2::{Digest as _, Sha256};

use crate::clock::Timestamp;
use crate::engine::{Cancel, Session};
use crate::ids::{Digest, ModelName, VersionName};
use crate::models::{LoadedModel, RunResult};
use crate::tensor::{Signature, Value};

struct StubSession<F> {
    signature: Signature,
    has_fixed_work: bool,
    run: F,
}

impl<F: Fn(Vec<(String, Value)>, &Cancel) -> RunResult + Send + Sync> Session for StubSession<F> {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn has_fixed_work(&self) -> bool {
        self.has_fixed_work
    }

    fn run(&self, inputs: &[(String, Value)], _: &[String], cancel: &Cancel) -> RunResult {
        (self.run)(inputs.to_vec(), cancel)
    }
}

/// Returns a version of `name` with the bytes `content`, whose runs call `run`.
pub(crate) fn loaded(
    name: &ModelName,
    content: &str,
    run: impl Fn(&Cancel) -> RunResult + Send + Sync + 'static,
) -> LoadedModel {
    let run = move |_: Vec<(String, Value)>, cancel: &Cancel| run(cancel);
    with_signature(name, content, Signature::default(), false, run)
}

/// Returns a version with a signature, with or without fixed work; `run` gets the inputs.
pub(crate) fn with_signature(
    name: &ModelName,
    content: &str,
    signature: Signature,
    has_fixed_work: bool,
    run: impl Fn(Vec<(String, Value)>, &Cancel) -> RunResult + Send + Sync + 'static,
) -> LoadedModel {
    let digest = Digest::of(Sha256::new().chain_update(content));
    LoadedModel::new(
        name.clone(),
        VersionName::derived(&digest),
        digest,
        Timestamp(0),
        Box::new(StubSession {
            signature,
            has_fixed_work,
            run,
        }),
    )
}
