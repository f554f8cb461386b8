//! Valid and invalid registrations. A valid one follows the invalid ones, so that Init ends.

use serde_json::json;

use crate::case::Case;
use crate::steps::{BOTH, extension_after, register, runtime_after};
use lab::script::{Call, Step};

pub(crate) fn cases() -> Vec<Case> {
    let features =
        |features: &str| register("one", &BOTH).header("Lambda-Extension-Accept-Feature", features);
    let after = |bad: Vec<Call>| {
        let bad = bad.into_iter().map(Step::from);
        bad.chain(extension_after("one", &BOTH, Vec::new()))
            .collect::<Vec<_>>()
    };
    let case = |name, bad| {
        Case::new(name)
            .extension("one", after(bad))
            .invoke(json!({}))
    };
    let body = |body: &str| Call {
        body: body.to_owned(),
        ..register("one", &[])
    };
    let with_feature = |name, call: Call| {
        let rest = crate::steps::events_until_shutdown(Vec::new());
        Case::new(name)
            .extension("one", vec![call.into(), rest])
            .invoke(json!({}))
    };
    vec![
        case(
            "registration without a name",
            vec![Call {
                headers: vec![],
                ..register("one", &BOTH)
            }],
        ),
        case(
            "registration under an unknown name",
            vec![register("other", &BOTH), register("other", &["SHUTDOWN"])],
        ),
        case("registration twice", vec![register("one", &BOTH)]),
        case(
            "registration for unknown events",
            vec![
                register("one", &["REBOOT"]),
                register("one", &["INVOKE", "REBOOT"]),
                register("one", &["invoke"]),
            ],
        ),
        case(
            "registration with a bad body",
            vec![
                body("{"),
                body(""),
                body(r#"{"events":"INVOKE"}"#),
                body(r#"{"events":["INVOKE"],"configurationKeys":["A"]}"#),
            ],
        ),
        with_feature("the feature accountId", features("accountId")),
        with_feature("several features", features("other, accountId")),
        with_feature("an unknown feature", features("other")),
        with_feature("registration without events", body("{}")),
        Case::new("late registration")
            .extension(
                "one",
                crate::steps::extension_on(
                    "one",
                    "INVOKE",
                    vec![register("one", &BOTH).into(), register("late", &[]).into()],
                ),
            )
            .invoke(json!({})),
        Case::new("SHUTDOWN for an extension inside the runtime")
            .function(runtime_after(vec![
                register("inside", &["SHUTDOWN"]).into(),
            ]))
            .invoke(json!({})),
    ]
}
