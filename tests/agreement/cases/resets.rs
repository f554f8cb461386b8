//! Timeouts and resets, and the state that they keep.

use serde_json::json;

use crate::case::Case;
use crate::steps::{BOTH, extension, extension_on, register, runtime_with};
use lab::script::Step;

pub(crate) fn cases() -> Vec<Case> {
    let once = |steps: Vec<Step>| vec![Step::AtStart(1, steps)];
    let both = |name: &'static str| {
        Case::new(name)
            .timeout_seconds(3)
            .invoke(json!({}))
            .invoke(json!({}))
    };
    vec![
        both("the function's time runs out")
            .extension("one", extension("one", &BOTH))
            .extension("two", extension("two", &["INVOKE"]))
            .function(runtime_with(once(vec![Step::Hang]))),
        both("an extension does not call next in time")
            .extension("one", extension_on("one", "INVOKE", once(vec![Step::Hang])))
            .extension("two", extension("two", &BOTH)),
        both("a reset keeps /tmp")
            .extension(
                "one",
                [
                    vec![Step::Look("kept".into()), Step::Leave("kept".into())],
                    extension_on("one", "INVOKE", vec![Step::Leave("one".into())]),
                ]
                .concat(),
            )
            .function(runtime_with(once(vec![
                Step::Await("one".into()),
                Step::Exit(1),
            ]))),
        Case::new("an extension ignores SHUTDOWN")
            .extension(
                "one",
                vec![
                    register("one", &BOTH).into(),
                    Step::Forever(vec![
                        crate::steps::next_event().into(),
                        Step::When("SHUTDOWN".into(), vec![Step::Hang]),
                    ]),
                ],
            )
            .invoke(json!({})),
        Case::new("an extension calls next after SHUTDOWN")
            .extension(
                "one",
                vec![
                    register("one", &BOTH).into(),
                    Step::Forever(vec![crate::steps::next_event().into()]),
                ],
            )
            .invoke(json!({})),
    ]
}
