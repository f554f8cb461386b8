//! Calls of the handler to the server in the same process.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use model_handler::failure::Failure;
use model_handler::limits::MAX_RESPONSE;
use model_handler::transport::{SidecarResponse, TimeLimit, Transport};

use crate::server::{self, ServerContext};

/// Server in this process.
#[derive(Clone)]
pub(super) struct InProcess(Arc<ServerContext>);

impl InProcess {
    pub(super) fn new(context: Arc<ServerContext>) -> Self {
        Self(context)
    }
}

impl fmt::Debug for InProcess {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("InProcess")
    }
}

impl Transport for InProcess {
    async fn exchange(
        &self,
        request: Request<Bytes>,
        limit: TimeLimit,
    ) -> Result<SidecarResponse, Failure> {
        let response = tokio::time::timeout_at(limit.end(), server::call(request, &self.0)).await;
        let (head, body) = response.map_err(|_| limit.passed())?.into_parts();
        if body.len() > MAX_RESPONSE {
            return Err(Failure::TooLarge);
        }
        Ok(SidecarResponse {
            status: head.status,
            headers: head.headers,
            body,
        })
    }
}
