//! What the server wants of whoever keeps the models current.

use super::RollbackRequest;
use crate::ids::ModelName;

/// Something wanted.
#[derive(Debug)]
pub enum Command {
    /// That a model's source is asked.
    Check(ModelName),
    /// That a model is rolled back to its previous version.
    RollBack(RollbackRequest),
}
