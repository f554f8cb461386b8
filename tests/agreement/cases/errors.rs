//! Errors that runtimes and extensions report, and processes that exit.

use serde_json::json;

use crate::case::Case;
use crate::steps::{
    BOTH, RUNTIME, UNKNOWN_ID, extension, extension_after, extension_error, extension_on,
    next_invocation, register, runtime_after, runtime_error, runtime_with,
};
use lab::script::{Call, Step};

#[expect(clippy::too_many_lines, reason = "a list")]
pub(crate) fn cases() -> Vec<Case> {
    let without = |call: Call, name: &str| {
        let headers = call
            .headers
            .into_iter()
            .filter(|(header, _)| header != name);
        Call {
            headers: headers.collect(),
            ..call
        }
    };
    let bad = |which: &str| -> Vec<Step> {
        let call = || extension_error(which);
        let of_unknown = without(call(), "Lambda-Extension-Identifier")
            .header("Lambda-Extension-Identifier", UNKNOWN_ID);
        vec![
            without(call(), "Lambda-Extension-Identifier").into(),
            without(call(), "Lambda-Extension-Function-Error-Type").into(),
            of_unknown.into(),
        ]
    };
    let once = |steps: Vec<Step>| vec![Step::AtStart(1, steps)];
    let in_init = |steps: Vec<Step>| {
        let mut all = vec![
            register("one", &BOTH).into(),
            Step::Await("function{start}".into()),
        ];
        all.extend(steps);
        all
    };
    let hangs_in_init = || vec![Step::Leave("function{start}".into()), Step::Hang];
    let hangs_in_invocation = || vec![Step::Leave("function".into()), Step::Hang];
    // The runtime waits for this extension: RIE may end an invocation with a dead runtime before or after it sends
    // INVOKE to the extensions.
    let sees_invoke = || extension_on("one", "INVOKE", vec![Step::Leave("one".into())]);
    // RIE fails when a process exits right after its start. These calls delay the exit.
    let calls_first = || -> Vec<Step> {
        let refused = || {
            Call::new(
                "POST",
                &format!("{RUNTIME}/invocation/{UNKNOWN_ID}/response"),
            )
        };
        vec![refused().into(), refused().into(), refused().into()]
    };
    let both = |name: &'static str| Case::new(name).invoke(json!({})).invoke(json!({}));
    vec![
        Case::new("init/error without its headers")
            .extension("one", extension_after("one", &BOTH, bad("init")))
            .invoke(json!({})),
        Case::new("exit/error without its headers")
            .extension("one", extension_on("one", "INVOKE", bad("exit")))
            .invoke(json!({})),
        Case::new("init/error after next")
            .extension(
                "one",
                extension_on("one", "INVOKE", vec![extension_error("init").into()]),
            )
            .invoke(json!({})),
        // Without the wait the runtime may or may not have started.
        both("init/error of an extension")
            .extension(
                "one",
                in_init(vec![extension_error("init").into(), Step::Exit(1)]),
            )
            .function(hangs_in_init()),
        both("exit/error of an extension in Init")
            .extension(
                "one",
                in_init(vec![extension_error("exit").into(), Step::Exit(1)]),
            )
            .function(hangs_in_init()),
        both("exit/error of an extension in an invocation")
            .extension(
                "one",
                [
                    vec![register("one", &BOTH).into()],
                    vec![crate::steps::events_until_shutdown(vec![Step::When(
                        "INVOKE".into(),
                        once(vec![
                            Step::Await("function".into()),
                            extension_error("exit").into(),
                            Step::Exit(1),
                        ]),
                    )])],
                ]
                .concat(),
            )
            .function(runtime_with(once(hangs_in_invocation()))),
        both("an extension exits in Init")
            .extension("one", in_init(vec![Step::Exit(0)]))
            .function(hangs_in_init()),
        both("an extension exits before it registers")
            .extension("one", [calls_first(), vec![Step::Exit(3)]].concat()),
        both("an extension exits in an invocation")
            .extension(
                "one",
                extension_on(
                    "one",
                    "INVOKE",
                    once(vec![
                        Step::Await("function".into()),
                        Step::Await("two".into()),
                        Step::Exit(3),
                    ]),
                ),
            )
            .extension(
                "two",
                extension_on("two", "INVOKE", once(vec![Step::Leave("two".into())])),
            )
            .function(runtime_with(once(hangs_in_invocation()))),
        both("init/error of the runtime")
            .extension("one", extension("one", &BOTH))
            .function(runtime_after(vec![
                runtime_error("init").into(),
                Step::Exit(1),
            ])),
        both("the runtime exits in Init")
            .extension("one", extension("one", &BOTH))
            .function([calls_first(), vec![Step::Exit(4)]].concat()),
        both("the runtime exits in Init, once")
            .extension("one", extension("one", &BOTH))
            .function(runtime_after(once(
                [calls_first(), vec![Step::Exit(4)]].concat(),
            ))),
        both("the runtime exits in an invocation")
            .extension("one", sees_invoke())
            .function(runtime_with(once(vec![
                Step::Await("one".into()),
                Step::Exit(5),
            ]))),
        both("the runtime exits with 0 in an invocation")
            .extension("one", sees_invoke())
            .function(runtime_with(once(vec![
                Step::Await("one".into()),
                Step::Exit(0),
            ]))),
        both("init/error of a runtime that has called next").function(vec![Step::Forever(vec![
            next_invocation().into(),
            runtime_error("init").into(),
            crate::steps::respond("{}").into(),
        ])]),
    ]
}
