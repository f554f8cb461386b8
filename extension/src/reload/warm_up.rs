//! The first run of a version, before it answers.
//!
//! A session's first run costs more than those that follow: the arena grows, weights that are mapped are read, kernels
//! set themselves up. Where the manifest has a golden example, the first one's inputs are run on the thread that loaded
//! the session, so that no caller pays for it. What comes out is not looked at, and nothing that goes wrong here keeps
//! the version from answering: it is logged. A run that takes long is cancelled, since callers may be waiting, and a
//! process that died in one finds no example at its next start ([`Journal`]).

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tracing::warn;

use super::milliseconds;
use crate::cache::Journal;
use crate::engine::{Cancel, EngineError, Session};
use crate::ids::{Digest, ModelName, Version};
use crate::manifest::GoldenTensor;
use crate::metrics::defs;
use crate::protocol::v2;

/// How long a warm-up may take: half of an Init.
const LONGEST: Duration = Duration::from_secs(5);

/// A warm-up that is to come.
pub(super) struct WarmUp {
    inputs: Vec<GoldenTensor>,
    begins: Box<dyn FnOnce() + Send>,
    runtime: Handle,
}

/// A warm-up that is over.
pub(super) struct WarmedUp {
    time: Duration,
    result: Result<(), String>,
}

impl WarmUp {
    /// The warm-up of the version of this digest, where the journal has an example for it. To be called inside a Tokio
    /// runtime, which cancels a run that takes too long.
    pub(super) fn of(digest: &Digest, journal: &Journal) -> Option<Self> {
        Some(Self {
            inputs: journal.history().example(digest)?.to_vec(),
            begins: Box::new(journal.warm_up_begins(digest)),
            runtime: Handle::current(),
        })
    }

    /// Runs the session once, and waits for it.
    pub(super) fn run(self, session: &dyn Session) -> WarmedUp {
        let started = Instant::now();
        (self.begins)();
        let result = Self::run_once(&self.inputs, session, &self.runtime);
        WarmedUp {
            time: started.elapsed(),
            result,
        }
    }

    fn run_once(
        inputs: &[GoldenTensor],
        session: &dyn Session,
        runtime: &Handle,
    ) -> Result<(), String> {
        let inputs = v2::golden_inputs(inputs, session.signature()).map_err(|error| error.0)?;
        let cancel = Arc::new(Cancel::default());
        let limit = runtime.spawn({
            let cancel = Arc::clone(&cancel);
            async move {
                tokio::time::sleep(LONGEST).await;
                cancel.cancel();
            }
        });
        let outputs = session.run(inputs, &[], &cancel);
        limit.abort();
        match outputs {
            Ok(_) => Ok(()),
            Err(EngineError::Cancelled) => {
                Err(format!("it was not over after {} s", LONGEST.as_secs()))
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

impl WarmedUp {
    /// Observes and logs how it went; gives the time that it took.
    pub(super) fn report(self, model: &ModelName, version: &Version) -> Duration {
        metrics::histogram!(defs::MODEL_WARM_UP_TIME, defs::MODEL_LABEL => model.to_string())
            .record(milliseconds(self.time));
        if let Err(reason) = self.result {
            warn!(
                %model,
                %version,
                "the warm-up with the manifest's first golden example failed, and the version answers all the same: \
                 {reason}"
            );
        }
        self.time
    }
}
