//! Exit codes, and the failures that have one of their own.

/// Exit code of a failure without a code of its own. Codes of invalid arguments come from clap: 2.
pub(crate) const FAILED: u8 = 1;

/// Table of exit codes in `--help`; docs/publishing.md has it as well.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done, or nothing to do
  1  failed: a file, the network, a permission
  2  invalid arguments
  3  rejected: a check failed, or the state is not the expected one; the manifest is unchanged
  4  conflict: another publisher wrote at the same time; the manifest is as they wrote it";

/// Failure with an exit code of its own.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A check failed, or the state is not the expected one.
    #[error("{0}")]
    Rejected(String),
    /// Another publisher wrote between the read and the write.
    #[error("{0}")]
    Conflict(String),
}

/// Returns a rejection as an error.
pub(crate) fn rejected(reason: impl Into<String>) -> anyhow::Error {
    Failure::Rejected(reason.into()).into()
}

/// Returns the exit code of a command that failed with this error.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    let failure = error.chain().find_map(|cause| cause.downcast_ref());
    match failure {
        Some(Failure::Rejected(_)) => 3,
        Some(Failure::Conflict(_)) => 4,
        None => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_context_keeps_the_code() {
        let rejected = Err::<(), _>(rejected("no")).context("cannot publish");
        assert_eq!(exit_code(&rejected.expect_err("an error")), 3);
        let conflict = anyhow::Error::from(Failure::Conflict("late".to_owned()));
        assert_eq!(exit_code(&conflict.context("cannot promote")), 4);
        assert_eq!(exit_code(&anyhow::anyhow!("disk full")), FAILED);
    }
}
