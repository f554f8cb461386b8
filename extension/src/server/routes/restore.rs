//! `POST /lambda/restore`: an after-restore hook of `SnapStart` reports the restore.
//!
//! Lambda tells the function's runtime of a restore, but no extension. Without a hook, the first invocation is the sign
//! of a restore. The call is idempotent, and waits for no poll.

use hyper::StatusCode;
use hyper::header::HeaderMap;

use crate::server::auth::is_remote;
use crate::server::context::ServerContext;
use crate::server::error::ApiError;
use crate::server::response::{ApiResponse, json};
use crate::status::SnapshotPhase;

/// Has the work after the restore done, if it was not done before.
pub(in crate::server) async fn restore(
    headers: &HeaderMap,
    context: &ServerContext,
) -> Result<ApiResponse, ApiError> {
    if is_remote(headers) {
        return Err(ApiError::Forbidden(
            "cannot report a restore from outside the execution environment; call it from an after-restore hook"
                .to_owned(),
        ));
    }
    match context.status.snapshot() {
        SnapshotPhase::None => Err(ApiError::NotRestored(
            "AWS_LAMBDA_INITIALIZATION_TYPE is not snap-start; call it from an after-restore hook of SnapStart alone",
        )),
        SnapshotPhase::Init => Err(ApiError::NotRestored(
            "Init has not ended, so that there is no snapshot yet; call it from an after-restore hook, not from \
             initialization code",
        )),
        SnapshotPhase::Ready if !context.status.report_restore().await => {
            Err(ApiError::ShuttingDown)
        }
        SnapshotPhase::Ready | SnapshotPhase::Restored => {
            Ok(json(StatusCode::OK, b"{\"restored\":true}".to_vec()))
        }
    }
}
