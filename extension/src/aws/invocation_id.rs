//! IDs of the SDK's calls, which AWS Support and the server's log identify a call by.

use aws_runtime::invocation_id::{InvocationId, InvocationIdGenerator};
use aws_smithy_runtime_api::box_error::BoxError;
use uuid::Uuid;

/// Generator without state. That of the SDK would repeat its IDs in all environments that are restored from one
/// snapshot.
#[derive(Debug)]
pub struct RandomIds;

impl InvocationIdGenerator for RandomIds {
    fn generate(&self) -> Result<Option<InvocationId>, BoxError> {
        Ok(Some(InvocationId::new(Uuid::new_v4().to_string())))
    }
}
