//! One poll: event by event, until the Runtime API fails.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use model_handler::Handler;
use model_handler::failure::{Failure, FunctionError};
use model_handler::invocation::Invocation;
use model_handler::response::FunctionResponse;
use model_handler::trace::{Traced, Tracer};
use tokio::sync::OwnedMutexGuard;
use tracing::error;

use super::api::{Invoked, RuntimeApi, RuntimeApiError};
use super::in_process::InProcess;
use crate::lifecycle::Driver;

/// Polls for events and answers them; returns only if `next` has failed.
pub(super) async fn poll(
    mut api: RuntimeApi,
    handler: Handler<Traced<InProcess>>,
    tracer: Option<Arc<Tracer>>,
    mut driver: Option<OwnedMutexGuard<Driver>>,
) -> RuntimeApiError {
    match api.restored().await {
        Ok(true) => {
            if let Some(driver) = &mut driver {
                driver.restored().await;
            }
        }
        Ok(false) => {}
        Err(error) => return error,
    }
    loop {
        if let Some(driver) = &mut driver {
            driver.next_called();
        }
        let invoked = match api.next().await {
            Ok(invoked) => invoked,
            Err(error) => return error,
        };
        let deadline_ms = invoked.invocation.deadline.0;
        if let Some(driver) = &mut driver {
            driver.begin_due(deadline_ms).await;
        }
        answer(&mut api, &handler, invoked).await;
        if let Some(tracer) = &tracer {
            tracer.flush();
        }
        if let Some(driver) = &mut driver {
            driver.hold_next(deadline_ms).await;
        }
    }
}

/// Handles one event, and posts its answer.
async fn answer(api: &mut RuntimeApi, handler: &Handler<Traced<InProcess>>, invoked: Invoked) {
    let Invoked { event, invocation } = invoked;
    let outcome = AssertUnwindSafe(handle(handler, event, &invocation)).catch_unwind();
    let id = &invocation.request_id;
    let posted = match outcome.await {
        Ok(Ok(body)) => api.post_response(id, body).await,
        Ok(Err(function_error)) => api.post_error(id, &function_error).await,
        // The panic was reported by its own message.
        Err(_) => {
            let function_error = FunctionError {
                error_type: "Model.Internal",
                error_message: "the handler panicked; see the log of the model sidecar".to_owned(),
            };
            api.post_error(id, &function_error).await
        }
    };
    if let Err(problem) = posted {
        error!(request_id = %id, "cannot post the answer of an invocation: {problem}");
    }
}

/// Returns the function's response to an event as JSON.
async fn handle(
    handler: &Handler<Traced<InProcess>>,
    event: Vec<u8>,
    invocation: &Invocation,
) -> Result<Vec<u8>, FunctionError> {
    let Ok(event) = String::from_utf8(event) else {
        let failure = Failure::BadRequest("the event is not UTF-8".to_owned());
        failure.log(invocation);
        return Err(FunctionError::from(&failure));
    };
    let response = handler.handle(event, invocation).await;
    response
        .map(FunctionResponse::into_json)
        .map_err(|failure| FunctionError::from(&failure))
}
