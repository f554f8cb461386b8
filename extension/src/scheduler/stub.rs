//! For tests: a loaded model that runs as it is told.

use sha2::{Digest as _, Sha256};

use crate::clock::Timestamp;
use crate::engine::{Cancel, Session};
use crate::ids::{Digest, ModelName, VersionName};
use crate::models::{Loaded, RunResult};
use crate::tensor::{Signature, Value};

struct Stub<F> {
    signature: Signature,
    has_fixed_work: bool,
    run: F,
}

impl<F: Fn(Vec<(String, Value)>, &Cancel) -> RunResult + Send + Sync> Session for Stub<F> {
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

/// A version of `name`, whose bytes are `content`, whose runs are `run`.
pub(crate) fn loaded(
    name: &ModelName,
    content: &str,
    run: impl Fn(&Cancel) -> RunResult + Send + Sync + 'static,
) -> Loaded {
    let run = move |_: Vec<(String, Value)>, cancel: &Cancel| run(cancel);
    with_signature(name, content, Signature::default(), false, run)
}

/// The same with inputs and outputs, of which `run` is told, and with fixed work or without.
pub(crate) fn with_signature(
    name: &ModelName,
    content: &str,
    signature: Signature,
    has_fixed_work: bool,
    run: impl Fn(Vec<(String, Value)>, &Cancel) -> RunResult + Send + Sync + 'static,
) -> Loaded {
    let digest = Digest::of(Sha256::new().chain_update(content));
    Loaded::new(
        name.clone(),
        VersionName::derived(&digest),
        digest,
        Timestamp(0),
        Box::new(Stub {
            signature,
            has_fixed_work,
            run,
        }),
    )
}
