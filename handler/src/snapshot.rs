//! `SnapStart`: waits for the sidecar before the snapshot, and tells it of each restore.
//!
//! Lambda tells the function's runtime of a restore, but no extension.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Uri};
use lambda_runtime::{BoxFuture, Error, SnapStartResource};
use model_handler::failure::Failure;
use model_handler::invocation::DEADLINE;
use model_handler::response;
use model_handler::sidecar::Sidecar;
use model_handler::transport::{TimeLimit, Transport as _};

/// Readiness of all models; with `Prefer: wait`, the response waits for it.
const READY: &str = "/v2/health/ready";
/// Default of `MODEL_INIT_BUDGET`, for which the sidecar itself holds back the snapshot.
const WAIT: &str = "wait=120";
/// Maximum time for the sidecar to start and to load its models. Init has 130 s before a snapshot.
const READY_TIME: Duration = Duration::from_secs(125);
/// Path of the report of a restore.
const RESTORE: &str = "/lambda/restore";
/// Maximum time of the report, which takes milliseconds. Lambda's limit is 10 s for all hooks.
const RESTORE_TIME: Duration = Duration::from_secs(2);

/// Sidecar in a process of which Lambda makes a snapshot.
pub(crate) struct SidecarSnapshot {
    sidecar: Sidecar,
}

impl SidecarSnapshot {
    /// Returns the hooks for this sidecar.
    pub(crate) fn new(sidecar: Sidecar) -> Arc<Self> {
        Arc::new(Self { sidecar })
    }

    /// Makes a call; an error is the reason for the log.
    async fn call(&self, request: Request<Bytes>, time: Duration) -> Result<(), String> {
        let answer = self
            .sidecar
            .exchange(request, TimeLimit::starting_now(time))
            .await
            .map_err(|failure: Failure| failure.to_string())?;
        if answer.status.is_success() {
            return Ok(());
        }
        let message = response::message(answer.status, &answer.body);
        Err(format!("status {}: {message}", answer.status))
    }
}

impl SnapStartResource for SidecarSnapshot {
    /// Waits until the models are loaded. Without them the snapshot is made as well, since a restored environment can
    /// load them; `MODEL_REQUIRED` prevents that.
    fn before_snapshot(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async {
            let mut request = Request::new(Bytes::new());
            *request.uri_mut() = Uri::from_static(READY);
            let headers = request.headers_mut();
            headers.insert("prefer", HeaderValue::from_static(WAIT));
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            let deadline = u64::try_from((now + READY_TIME).as_millis()).unwrap_or(u64::MAX);
            headers.insert(DEADLINE, HeaderValue::from(deadline));
            if let Err(problem) = self.call(request, READY_TIME).await {
                tracing::warn!("the snapshot is made before the model sidecar is ready: {problem}");
            }
            Ok(())
        })
    }

    /// Reports the restore. After a failure, the first invocation counts as the report.
    fn after_restore(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async {
            let mut request = Request::new(Bytes::new());
            *request.method_mut() = Method::POST;
            *request.uri_mut() = Uri::from_static(RESTORE);
            if let Err(problem) = self.call(request, RESTORE_TIME).await {
                tracing::warn!(
                    "cannot report the restore to the model sidecar, which notices it at the first invocation: {problem}"
                );
            }
            Ok(())
        })
    }
}
