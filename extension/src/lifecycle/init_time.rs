//! Duration of a start: from the start of the process until all models are active.
//!
//! Init may end earlier, if `MODEL_INIT_BUDGET` has passed or a model cannot be loaded. The duration is recorded when
//! the last model becomes active, possibly in a later invocation, and counts time awake.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::timed_awake;
use crate::metrics::defs;
use crate::reload::milliseconds;
use crate::status::{ModelStatus, Status};

/// Waits until all models are active, and records the duration of the start. `passed` is its duration so far.
pub async fn record(status: Arc<Status>, passed: Duration) {
    let all_active = async {
        for (model, _) in status.all() {
            let Some(mut model) = status.watch(model) else {
                continue;
            };
            let is_active = |status: &ModelStatus| status.version.is_some();
            let is_over = model.wait_for(is_active).await.is_err();
            if is_over {
                std::future::pending::<()>().await;
            }
        }
    };
    let ((), waited) = timed_awake(all_active).await;
    metrics::histogram!(defs::INIT_TIME).record(milliseconds(passed + waited));
}
