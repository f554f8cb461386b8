//! Managed instances: no INVOKE for extensions.

use serde_json::json;

use crate::acts::{BOTH, extension, register};
use crate::scene::Case;
use crate::script::Step;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        // One alone: the runtime has not called `next` again when its caller has the answer, and
        // RIE refuses whoever comes before it has.
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
