//! Attachment of the function's process to the sidecar, with `MODEL_HANDLER=attach`.
//!
//! The sidecar then is the function's runtime: it polls the Runtime API itself. Lambda still starts `bootstrap`, and
//! restarts the environment when it exits. `bootstrap` sends one request ([`PATH`]) with what only the function's
//! process sees, and waits. The sidecar responds only to reject or to release the process. The connection is open
//! while both processes run, so that each notices the end of the other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::trace;

/// Path of the request, which is accepted over the Unix socket alone.
pub const PATH: &str = "/lambda/attach";

/// Concurrent invocations on managed instances.
const MAX_CONCURRENCY: &str = "AWS_LAMBDA_MAX_CONCURRENCY";

/// Variables of the function's process that Lambda hides from extensions.
pub const VARIABLES: [&str; 7] = [
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    MAX_CONCURRENCY,
    trace::DAEMON_ADDRESS,
    "LAMBDA_TASK_ROOT",
    "_HANDLER",
];

/// The function's process: body of the request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionProcess {
    /// Version of the handler.
    pub version: String,
    /// [`VARIABLES`] that are set, by name.
    pub variables: BTreeMap<String, String>,
}

impl FunctionProcess {
    /// Returns the maximum number of concurrent invocations: one, except on managed instances.
    #[must_use]
    pub fn concurrency(&self) -> usize {
        let given = self.variables.get(MAX_CONCURRENCY);
        let given = given.and_then(|text| text.parse().ok());
        given.unwrap_or(1).max(1)
    }

    /// Returns the address of the X-Ray daemon.
    #[must_use]
    pub fn xray_daemon(&self) -> Option<&str> {
        self.variables
            .get(trace::DAEMON_ADDRESS)
            .map(String::as_str)
    }
}

#[cfg(feature = "bootstrap")]
pub use client::{AttachError, attach};

#[cfg(feature = "bootstrap")]
mod client {
    use std::time::Duration;

    use http::{Method, Request, StatusCode, Uri};

    use super::{FunctionProcess, PATH};
    use crate::failure::Failure;
    use crate::response;
    use crate::sidecar::Sidecar;
    use crate::transport::TimeLimit;

    /// Maximum time until the sidecar listens. It binds its socket within milliseconds of its start, and Lambda starts
    /// it first; Init has 10 s.
    const LISTEN_TIME: Duration = Duration::from_secs(5);

    /// End of an attachment.
    #[derive(Debug, thiserror::Error)]
    pub enum AttachError {
        /// No sidecar listens, or the request cannot be sent.
        #[error("cannot attach with MODEL_HANDLER=attach: {0}")]
        Unreachable(Failure),
        /// The sidecar does not accept the process.
        #[error(
            "cannot attach with MODEL_HANDLER=attach: the model sidecar responded with {status}: {message}; use the \
             layer and the bootstrap of one release, or remove MODEL_HANDLER"
        )]
        Rejected {
            /// Status of the response.
            status: StatusCode,
            /// Message of the sidecar.
            message: String,
        },
        /// The sidecar has ended after it accepted the process.
        #[error("the model sidecar has ended; its log has the reason")]
        Ended,
    }

    impl AttachError {
        /// Returns `true` if the process was never attached, so that its Init has failed.
        #[must_use]
        pub fn is_of_init(&self) -> bool {
            !matches!(self, Self::Ended)
        }
    }

    /// Attaches this process to the sidecar, and waits until the sidecar ends.
    pub async fn attach(sidecar: &Sidecar, process: &FunctionProcess) -> AttachError {
        let body = serde_json::to_vec(process).unwrap_or_default();
        let mut request = Request::new(body.into());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_static(PATH);
        let limit = TimeLimit::starting_now(LISTEN_TIME);
        match sidecar.hold(request, limit).await {
            // The sidecar releases the process when it shuts down.
            Ok(answer) if answer.status == StatusCode::SERVICE_UNAVAILABLE => AttachError::Ended,
            Ok(answer) => AttachError::Rejected {
                status: answer.status,
                message: response::message(answer.status, &answer.body),
            },
            Err(Failure::Broken) => AttachError::Ended,
            Err(failure) => AttachError::Unreachable(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concurrency_is_at_least_one() {
        for (value, expected) in [(None, 1), (Some("8"), 8), (Some("0"), 1), (Some("many"), 1)] {
            let variables = value.map(|value| (MAX_CONCURRENCY.to_owned(), value.to_owned()));
            let process = FunctionProcess {
                version: String::new(),
                variables: variables.into_iter().collect(),
            };
            assert_eq!(process.concurrency(), expected, "{value:?}");
        }
    }

    #[test]
    fn a_description_of_a_later_release_is_read() {
        let text = r#"{"version":"9","variables":{"_HANDLER":"x"},"more":[1]}"#;
        let process: FunctionProcess = serde_json::from_str(text).unwrap();
        assert_eq!(process.version, "9");
        assert_eq!(process.variables["_HANDLER"], "x");
    }
}
