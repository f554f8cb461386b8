//! Commands of the server to the driver of version checks.

use crate::ids::ModelName;
use crate::rollback::RollbackRequest;

/// Command of the server.
#[derive(Debug)]
pub enum ModelCommand {
    /// Checks the source of a model for a new version.
    Check(ModelName),
    /// Rolls a model back to its previous version.
    RollBack(RollbackRequest),
}
