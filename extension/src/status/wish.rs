//! What the server wants of whoever keeps the models current.

use crate::ids::{Digest, ModelName};

/// Something wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// That a model's source is asked.
    Check(ModelName),
    /// That a version answers no more.
    Withdraw(Withdrawal),
}

/// A version that is not fit to answer, as its requests have shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withdrawal {
    /// The model.
    pub model: ModelName,
    /// The digest of the version's files.
    pub digest: Digest,
    /// What has shown it, in words.
    pub reason: String,
}
