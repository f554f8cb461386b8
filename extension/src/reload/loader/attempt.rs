//! One attempt to load and validate a version, on a dedicated thread.

use std::sync::Arc;

use super::replay::{Replay, ReplayDecision};
use crate::cache::CachedModel;
use crate::engine::{Engine, EngineError, PreparedWeights};
use crate::onnx::Description;
use crate::reload::engine_slot::on_thread;
use crate::reload::error::CheckError;
use crate::reload::validation::{Validated, Validation};

/// Parameters of a load.
pub(super) struct LoadAttempt {
    pub(super) engine: Arc<dyn Engine>,
    /// `true` if threads that serve requests take precedence.
    pub(super) has_low_priority: bool,
}

/// A version that was loaded and validated, with its files.
pub(super) type Attempted = (ReplayDecision, Validated, CachedModel);

impl LoadAttempt {
    /// Loads and validates a version; for a rollback, the replay of failed inputs then decides. Returns the files as
    /// well, so that they stay in the cache until the version is active.
    pub(super) async fn load(
        &self,
        files: CachedModel,
        description: Option<Description>,
        prepared: PreparedWeights,
        validation: Validation,
        replay: Option<Replay>,
    ) -> Result<Result<Attempted, CheckError>, EngineError> {
        let (engine, has_low_priority) = (Arc::clone(&self.engine), self.has_low_priority);
        on_thread("load-model", move || {
            if has_low_priority {
                crate::sys::lower_thread_priority();
            }
            let session = engine.load_prepared(files.path(), description.as_ref(), prepared)?;
            let validated = validation.validate(&*session)?;
            let decision = match replay {
                Some(replay) => replay.decide(session),
                None => Ok((session, None)),
            };
            Ok((decision, validated, files))
        })
        .await
    }
}
