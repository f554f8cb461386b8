//! History of environments, for a timeline: changes of state, freezes, and versions of models that responded.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::State;

/// Maximum number of kept changes; the oldest are dropped.
const MAX_CHANGES: usize = 20_000;
/// Number of bytes at each end of a response in which the model's version is searched.
const SEARCHED: usize = 4_096;

/// A change of an environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentChange {
    /// Number of the environment.
    pub environment: usize,
    /// Time on the machine's clock.
    pub at: SystemTime,
    /// State from then on.
    pub state: State,
    /// `true` if the processes are frozen.
    pub is_frozen: bool,
    /// Version of the model in the last response; `None` before the first one.
    pub version: Option<String>,
}

/// Changes of all environments of a function, in order.
#[derive(Debug, Default)]
pub(super) struct History {
    changes: Mutex<VecDeque<EnvironmentChange>>,
}

impl History {
    pub(super) fn push(&self, change: EnvironmentChange) {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        if changes.len() == MAX_CHANGES {
            changes.pop_front();
        }
        changes.push_back(change);
    }

    pub(super) fn all(&self) -> Vec<EnvironmentChange> {
        let changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        changes.iter().cloned().collect()
    }
}

/// Returns the value of the first field `model_version` near the beginning or the end of a response. The response can
/// be JSON within a string of JSON.
pub(super) fn model_version(response: &[u8]) -> Option<String> {
    let end = response.len().saturating_sub(SEARCHED);
    let head = response.get(..SEARCHED).unwrap_or(response);
    [head, response.get(end..).unwrap_or_default()]
        .into_iter()
        .find_map(|part| version_in(&String::from_utf8_lossy(part)))
}

fn version_in(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("model_version")?;
    let value = rest.trim_start_matches(['\\', '"', ':', ' ']);
    let end = value.find(['\\', '"', ',', '}'])?;
    let version = value.get(..end)?;
    (!version.is_empty()).then(|| version.to_owned())
}

#[test]
fn versions_are_found_in_direct_responses_and_in_http_responses() {
    let found = |text: &str| model_version(text.as_bytes());
    assert_eq!(
        found(r#"{"prediction":[0],"model_version":"17"}"#).as_deref(),
        Some("17")
    );
    let http = r#"{"statusCode":200,"body":"{\"model_name\":\"wine\",\"model_version\":\"v2\"}"}"#;
    assert_eq!(found(http).as_deref(), Some("v2"));
    let long = format!(r#"{{"x":"{}","model_version":"3"}}"#, "a".repeat(20_000));
    assert_eq!(found(&long).as_deref(), Some("3"));
    assert_eq!(found(r#"{"prediction":[0]}"#), None);
}
