//! An append-only list that tests read and wait on: requests to a server, accepted datapoints. Each
//! change wakes every waiter; nothing polls.

use std::fmt::Debug;

use tokio::sync::watch;

use crate::WAIT_LIMIT;

/// A condition that a test waited for did not become true; the message shows the actual state.
#[derive(Debug, thiserror::Error)]
#[error("not seen within {} s: {wanted}\nseen instead:\n{seen}", WAIT_LIMIT.as_secs())]
pub struct NotSeen {
    wanted: String,
    seen: String,
}

impl NotSeen {
    pub(crate) fn new(wanted: &str, seen: &str) -> Self {
        Self {
            wanted: wanted.to_owned(),
            seen: seen.to_owned(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Records<T> {
    list: watch::Sender<Vec<T>>,
}

impl<T> Default for Records<T> {
    fn default() -> Self {
        Self {
            list: watch::Sender::new(Vec::new()),
        }
    }
}

impl<T: Clone + Debug> Records<T> {
    /// Adds a record and returns its index, by which [`Self::amend`] finds it.
    pub(crate) fn push(&self, record: T) -> usize {
        let mut place = 0;
        self.list.send_modify(|list| {
            place = list.len();
            list.push(record);
        });
        place
    }

    pub(crate) fn extend(&self, records: Vec<T>) {
        self.list.send_modify(|list| list.extend(records));
    }

    /// Changes a record in place; without effect if the list was cleared since.
    pub(crate) fn amend(&self, place: usize, change: impl FnOnce(&mut T)) {
        self.list.send_modify(|list| {
            if let Some(record) = list.get_mut(place) {
                change(record);
            }
        });
    }

    pub(crate) fn all(&self) -> Vec<T> {
        self.list.borrow().clone()
    }

    /// Clones the records that match, in order.
    pub(crate) fn matching(&self, is_wanted: impl Fn(&T) -> bool) -> Vec<T> {
        let list = self.list.borrow();
        list.iter().filter(|one| is_wanted(one)).cloned().collect()
    }

    pub(crate) async fn wait_until(
        &self,
        wanted: &str,
        mut holds: impl FnMut(&[T]) -> bool,
    ) -> Result<Vec<T>, NotSeen> {
        let mut list = self.list.subscribe();
        let seen = list.wait_for(|list| holds(list));
        if let Ok(Ok(list)) = tokio::time::timeout(WAIT_LIMIT, seen).await {
            return Ok(list.clone());
        }
        let lines: Vec<_> = self.all().iter().map(|one| format!("{one:?}")).collect();
        Err(NotSeen::new(wanted, &lines.join("\n")))
    }
}
