//! Managed instances: no INVOKE for extensions.

use serde_json::json;

use crate::case::Case;
use crate::steps::{BOTH, extension, register};
use lab::script::Step;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        // A single invocation: RIE rejects one that arrives before the runtime has called `next` again.
        Case::new("managed: an invocation")
            .managed(2)
            .invoke(json!({})),
        Case::new("managed: an extension")
            .managed(2)
            .extension("one", extension("one", &["SHUTDOWN"]))
            .invoke(json!({})),
        Case::new("managed: INVOKE is refused")
            .managed(2)
            .extension(
                "one",
                [
                    vec![
                        Step::Call(register("one", &BOTH)),
                        register("one", &["INVOKE"]).into(),
                    ],
                    extension("one", &["SHUTDOWN"]),
                ]
                .concat(),
            )
            .invoke(json!({})),
    ]
}
