//! Commands of the server to the driver of version checks.

use tokio::sync::oneshot;

use crate::ids::ModelName;
use crate::rollback::RollbackRequest;

/// Command of the server.
#[derive(Debug)]
pub enum ModelCommand {
    /// Checks the source of a model for a new version.
    Check(ModelName),
    /// Rolls a model back to its previous version.
    RollBack(RollbackRequest),
    /// Does the work after the restore of a snapshot, and answers when requests may be served.
    Restored(oneshot::Sender<()>),
}
