//! Errors that either side reports, and processes that end.

use serde_json::json;

use crate::acts::{
    BOTH, NOBODY, RUNTIME, extension, extension_after, extension_error, extension_on,
    next_invocation, register, runtime_after, runtime_error, runtime_with,
};
use crate::scene::Case;
use crate::script::{Call, Step};

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
        let of_nobody = without(call(), "Lambda-Extension-Identifier")
            .header("Lambda-Extension-Identifier", NOBODY);
        vec![
            without(call(), "Lambda-Extension-Identifier").into(),
            without(call(), "Lambda-Extension-Function-Error-Type").into(),
            of_nobody.into(),
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
    let runs_in_init = || vec![Step::Leave("function{start}".into()), Step::Hang];
    let works = || vec![Step::Leave("function".into()), Step::Hang];
    // An extension that the runtime can wait for: RIE ends an invocation whose runtime has died
    // before or after the extensions have been told of it.
    let sees_invoke = || extension_on("one", "INVOKE", vec![Step::Leave("one".into())]);
    // RIE fails when a process dies that it has only just started. One that has talked to it for a
    // while has been.
    let talks = || -> Vec<Step> {
        let refused = || Call::new("POST", &format!("{RUNTIME}/invocation/{NOBODY}/response"));
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
        // The runtime runs by then, or not: it says so, and the extension waits for that.
        both("init/error of an extension")
            .extension(
                "one",
                in_init(vec![extension_error("init").into(), Step::Exit(1)]),
            )
            .function(runs_in_init()),
        both("exit/error of an extension in Init")
            .extension(
                "one",
                in_init(vec![extension_error("exit").into(), Step::Exit(1)]),
            )
            .function(runs_in_init()),
        both("exit/error of an extension in an invocation")
            .extension(
                "one",
                [
                    vec![register("one", &BOTH).into()],
                    vec![crate::acts::events_until_shutdown(vec![Step::When(
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
            .function(runtime_with(once(works()))),
        both("an extension exits in Init")
            .extension("one", in_init(vec![Step::Exit(0)]))
            .function(runs_in_init()),
        both("an extension exits before it registers")
            .extension("one", [talks(), vec![Step::Exit(3)]].concat()),
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
            .function(runtime_with(once(works()))),
        both("init/error of the runtime")
            .extension("one", extension("one", &BOTH))
            .function(runtime_after(vec![
                runtime_error("init").into(),
                Step::Exit(1),
            ])),
        both("the runtime exits in Init")
            .extension("one", extension("one", &BOTH))
            .function([talks(), vec![Step::Exit(4)]].concat()),
        both("the runtime exits in Init, once")
            .extension("one", extension("one", &BOTH))
            .function(runtime_after(once([talks(), vec![Step::Exit(4)]].concat()))),
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
            crate::acts::respond("{}").into(),
        ])]),
    ]
}
