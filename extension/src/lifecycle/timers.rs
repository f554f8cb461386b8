//! Driven by time alone: on any machine that is not Lambda, and on Lambda's managed instances.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::Work;
use super::plan::Plan;

/// The shortest pause between two looks at the plan, so that an interval of zero does not spin.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

/// Does what is due, until `end`.
pub async fn run(work: &Arc<Work>, mut plan: Plan, end: impl Future<Output = ()>) {
    tokio::pin!(end);
    loop {
        let pause = plan.next_in(work.clock.now()).max(SHORTEST_PAUSE);
        tokio::select! {
            () = &mut end => return,
            () = tokio::time::sleep(pause) => {}
        }
        // Without invocations there is nobody to ask again for a model that is missing: the interval does.
        let due = plan.due(work.clock.now(), |_| true);
        drop(work.begin(due));
    }
}
