//! List of the known differences.

use super::{Cases, Difference};

/// Known differences in the order of their application: a row applies to the result of the rows before it.
pub(crate) const ALL: &[Difference] = &[
    Difference {
        cases: Cases::Only(&[
            "managed: an invocation",
            "managed: an extension",
            "managed: INVOKE is refused",
        ]),
        who: None,
        texts: &[(
            "arn:aws:lambda:us-east-1:123456789012:function:lab",
            "arn:aws:lambda:eu-central-1:012345678912:function:lab",
        )],
        rie: "an ARN with another account and region",
        lab: "the function's account and region",
        why: "RIE has a hard-coded ARN in each mode",
    },
    Difference {
        cases: Cases::But(&[
            "managed: an invocation",
            "managed: an extension",
            "managed: INVOKE is refused",
        ]),
        who: None,
        texts: &[(
            "arn:aws:lambda:us-east-1:012345678912:function:lab",
            "arn:aws:lambda:eu-central-1:012345678912:function:lab",
        )],
        rie: "an ARN in us-east-1, in any region",
        lab: "an ARN in the region of `AWS_REGION`",
        why: "the ARN of a function contains its region",
    },
    Difference {
        cases: Cases::Any,
        who: None,
        texts: &[
            ("", " [lambda-runtime-trace-id: <trace>]"),
            (
                "",
                r#","tracing":{"type":"X-Amzn-Trace-Id","value":"<trace>"}"#,
            ),
        ],
        rie: "an event has a trace only if the caller sent one",
        lab: "every event has a trace",
        why: "Lambda assigns a trace id to every invocation, sampled or not",
    },
    Difference {
        cases: Cases::But(&[
            "managed: an invocation",
            "managed: an extension",
            "managed: INVOKE is refused",
            "the runtime exits in Init, once",
            "init/error of the runtime",
            "the runtime exits in Init",
        ]),
        who: None,
        texts: &[(
            r#""shutdownReason":"SandboxTerminated""#,
            r#""shutdownReason":"spindown""#,
        )],
        rie: "`SandboxTerminated` at the end",
        lab: "`spindown`",
        why: "RIE uses the platform's name on managed instances and after a failed Init only; Lambda sends `spindown`",
    },
    Difference {
        cases: Cases::Any,
        who: None,
        texts: &[
            (
                r#""shutdownReason":"ReleaseFail""#,
                r#""shutdownReason":"failure""#,
            ),
            (
                r#""shutdownReason":"Timeout""#,
                r#""shutdownReason":"timeout""#,
            ),
        ],
        rie: "`ReleaseFail` after a crash, `Timeout` after a timeout",
        lab: "`failure` and `timeout`",
        why: "the documented reasons, which Lambda sends in lower case",
    },
    Difference {
        cases: Cases::Only(&["the feature accountId", "several features"]),
        who: Some("one"),
        texts: &[("", r#""accountId":"012345678912","#)],
        rie: "no `accountId`, since RIE has no account",
        lab: "`accountId` is present",
        why: "the Extensions API documents it for extensions that accept the feature",
    },
    Difference {
        cases: Cases::Only(&["registration with a bad body"]),
        who: Some("one"),
        texts: &[
            (
                r#""errorMessage":"unexpected end of JSON input""#,
                r#""errorMessage":"EOF while parsing an object at line 1 column 1""#,
            ),
            (
                r#""errorMessage":"json: cannot unmarshal string into Go struct field .RegisterRequest.events of type []core.Event""#,
                r#""errorMessage":"invalid type: string \"INVOKE\", expected a sequence at line 1 column 18""#,
            ),
        ],
        rie: "the message of Go's JSON parser",
        lab: "the message of serde",
        why: "status and `errorType` are the same; the message is not part of the API",
    },
    Difference {
        cases: Cases::Only(&[
            "init/error of an extension",
            "exit/error of an extension in Init",
            "an extension exits in Init",
            "an extension exits before it registers",
            "init/error of the runtime",
            "the runtime exits in Init",
        ]),
        who: Some("caller"),
        texts: &[
            (
                "< 502 [error: 502 Bad Gateway]\n",
                r#"< 200 [error: Extension.InitError] {"errorType":"Extension.InitError","errorMessage":"RequestId: <uuid 1> Error: exit status 1"}
"#,
            ),
            (
                "< 502 [error: 502 Bad Gateway]\n",
                r#"< 200 [error: Extension.InitError] {"errorType":"Extension.InitError","errorMessage":"RequestId: <uuid 2> Error: exit status 1"}
"#,
            ),
            (
                "< 502 [error: 502 Bad Gateway]\n",
                r#"< 200 [error: Extension.ExitError] {"errorType":"Extension.ExitError","errorMessage":"RequestId: <uuid 1> Error: exit status 1"}
"#,
            ),
            (
                "< 502 [error: 502 Bad Gateway]\n",
                r#"< 200 [error: Extension.ExitError] {"errorType":"Extension.ExitError","errorMessage":"RequestId: <uuid 2> Error: exit status 1"}
"#,
            ),
            (
                "< 502 [error: 502 Bad Gateway]\n",
                r#"< 200 [error: Extension.Crash] {"errorType":"Extension.Crash","errorMessage":"RequestId: <uuid 1> Error: exit code 0"}
"#,
            ),
            (
                "< 502 [error: 502 Bad Gateway]\n",
                r#"< 200 [error: Extension.Crash] {"errorType":"Extension.Crash","errorMessage":"RequestId: <uuid 2> Error: exit code 0"}
"#,
            ),
            (
                "< 502 [error: 502 Bad Gateway]\n",
                r#"< 200 [error: Extension.Crash] {"errorType":"Extension.Crash","errorMessage":"RequestId: <uuid 1> Error: exit status 3"}
"#,
            ),
            (
                "< 502 [error: 502 Bad Gateway]\n",
                r#"< 200 [error: Extension.Crash] {"errorType":"Extension.Crash","errorMessage":"RequestId: <uuid 2> Error: exit status 3"}
"#,
            ),
            (
                "< 502 [error: 502 Bad Gateway]\n",
                r#"< 200 [error: Runtime.ExitError] {"errorType":"Runtime.ExitError","errorMessage":"RequestId: <uuid 1> Error: Runtime exited with error: exit status 4"}
"#,
            ),
            (
                "< 502 [error: 502 Bad Gateway]\n",
                r#"< 200 [error: Runtime.ExitError] {"errorType":"Runtime.ExitError","errorMessage":"RequestId: <uuid 2> Error: Runtime exited with error: exit status 4"}
"#,
            ),
        ],
        rie: "an empty 502 after an Init that failed",
        lab: "200 with `X-Amz-Function-Error` and the error",
        why: "as below; RIE loses the error if Init fails before the invocation",
    },
    Difference {
        cases: Cases::Only(&["init/error of the runtime"]),
        who: Some("caller"),
        texts: &[(
            "< 502 [error: Runtime.Asked] {",
            "< 200 [error: Runtime.Asked] {",
        )],
        rie: "502 after an `init/error` of the runtime",
        lab: "200 with `X-Amz-Function-Error`",
        why: "the Invoke API responds with 200 to every error of the function",
    },
    Difference {
        cases: Cases::Any,
        who: Some("caller"),
        texts: &[
            (
                "< 502 [error: Extension.ExitError] {",
                "< 200 [error: Extension.ExitError] {",
            ),
            (
                r#"< 502 [error: Extension.Crash] {"errorType":"Extension.Crash","errorMessage":"RequestId: <uuid 1> Error: exit status 3"#,
                r#"< 200 [error: Extension.Crash] {"errorType":"Extension.Crash","errorMessage":"RequestId: <uuid 1> Error: exit status 3"#,
            ),
            (
                "< 502 [error: Runtime.ExitError] {",
                "< 200 [error: Runtime.ExitError] {",
            ),
        ],
        rie: "502 after the death of a process in an invocation",
        lab: "200 with `X-Amz-Function-Error`",
        why: "the Invoke API responds with 200 to every error of the function",
    },
    Difference {
        cases: Cases::Only(&[
            "init/error of an extension",
            "exit/error of an extension in Init",
            "an extension exits in Init",
            "an extension exits before it registers",
            "init/error of the runtime",
            "the runtime exits in Init",
        ]),
        who: None,
        texts: &[
            ("", "start\nleaves /tmp/function3\n"),
            (
                "",
                r#"start
> POST /2020-01-01/extension/register [Lambda-Extension-Name: one] {"events":["INVOKE","SHUTDOWN"]}
< 200 [content-type: application/json] [lambda-extension-identifier: <uuid 3>] {"functionName":"lab","functionVersion":"$LATEST","handler":"bootstrap"}
> POST /2020-01-01/extension/init/error [Lambda-Extension-Identifier: <uuid 3>] [Lambda-Extension-Function-Error-Type: Extension.Asked] {"errorMessage":"as asked","errorType":"Extension.Asked","stackTrace":[]}
< 202 [content-type: application/json] {"status":"OK"}
exit 1
"#,
            ),
            (
                "",
                r#"start
> POST /2020-01-01/extension/register [Lambda-Extension-Name: one] {"events":["INVOKE","SHUTDOWN"]}
< 200 [content-type: application/json] [lambda-extension-identifier: <uuid 3>] {"functionName":"lab","functionVersion":"$LATEST","handler":"bootstrap"}
> POST /2020-01-01/extension/exit/error [Lambda-Extension-Identifier: <uuid 3>] [Lambda-Extension-Function-Error-Type: Extension.Asked] {"errorMessage":"as asked","errorType":"Extension.Asked","stackTrace":[]}
< 202 [content-type: application/json] {"status":"OK"}
exit 1
"#,
            ),
            (
                "",
                r#"start
> POST /2020-01-01/extension/register [Lambda-Extension-Name: one] {"events":["INVOKE","SHUTDOWN"]}
< 200 [content-type: application/json] [lambda-extension-identifier: <uuid 3>] {"functionName":"lab","functionVersion":"$LATEST","handler":"bootstrap"}
exit 0
"#,
            ),
            (
                r#"start
> POST /2018-06-01/runtime/invocation/00000000-0000-0000-0000-000000000000/response
< 400 [content-type: application/json] {"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}
> POST /2018-06-01/runtime/invocation/00000000-0000-0000-0000-000000000000/response
< 400 [content-type: application/json] {"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}
> POST /2018-06-01/runtime/invocation/00000000-0000-0000-0000-000000000000/response
< 400 [content-type: application/json] {"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}
exit 3
start
> POST /2018-06-01/runtime/invocation/00000000-0000-0000-0000-000000000000/response
< 400 [content-type: application/json] {"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}
> POST /2018-06-01/runtime/invocation/00000000-0000-0000-0000-000000000000/response
< 400 [content-type: application/json] {"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}
> POST /2018-06-01/runtime/invocation/00000000-0000-0000-0000-000000000000/response
< 400 [content-type: application/json] {"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}
exit 3
"#,
                r#"start
> POST /2018-06-01/runtime/invocation/00000000-0000-0000-0000-000000000000/response
< 400 [content-type: application/json] {"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}
> POST /2018-06-01/runtime/invocation/00000000-0000-0000-0000-000000000000/response
< 400 [content-type: application/json] {"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}
> POST /2018-06-01/runtime/invocation/00000000-0000-0000-0000-000000000000/response
< 400 [content-type: application/json] {"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}
exit 3
start
> POST /2018-06-01/runtime/invocation/00000000-0000-0000-0000-000000000000/response
< 400 [content-type: application/json] {"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}
> POST /2018-06-01/runtime/invocation/00000000-0000-0000-0000-000000000000/response
< 400 [content-type: application/json] {"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}
> POST /2018-06-01/runtime/invocation/00000000-0000-0000-0000-000000000000/response
< 400 [content-type: application/json] {"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}
exit 3
start
> POST /2018-06-01/runtime/invocation/00000000-0000-0000-0000-000000000000/response
< 400 [content-type: application/json] {"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}
> POST /2018-06-01/runtime/invocation/00000000-0000-0000-0000-000000000000/response
< 400 [content-type: application/json] {"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}
> POST /2018-06-01/runtime/invocation/00000000-0000-0000-0000-000000000000/response
< 400 [content-type: application/json] {"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}
exit 3
"#,
            ),
            (
                r#"start
> POST /2018-06-01/runtime/invocation/00000000-0000-0000-0000-000000000000/response
< 400 [content-type: application/json] {"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}
> POST /2018-06-01/runtime/invocation/00000000-0000-0000-0000-000000000000/response
< 400 [content-type: application/json] {"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}
> POST /2018-06-01/runtime/invocation/00000000-0000-0000-0000-000000000000/response
< 400 [content-type: application/json] {"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}
exit 4
start
> POST /2018-06-01/runtime/invocation/00000000-0000-0000-0000-000000000000/response
< 400 [content-type: application/json] {"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}
> POST /2018-06-01/runtime/invocation/00000000-0000-0000-0000-000000000000/response
< 400 [content-type: application/json] {"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}
> POST /2018-06-01/runtime/invocation/00000000-0000-0000-0000-000000000000/response
< 400 [content-type: application/json] {"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}
exit 4
"#,
                r#"start
> POST /2018-06-01/runtime/invocation/00000000-0000-0000-0000-000000000000/response
< 400 [content-type: application/json] {"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}
> POST /2018-06-01/runtime/invocation/00000000-0000-0000-0000-000000000000/response
< 400 [content-type: application/json] {"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}
> POST /2018-06-01/runtime/invocation/00000000-0000-0000-0000-000000000000/response
< 400 [content-type: application/json] {"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}
exit 4
start
> POST /2018-06-01/runtime/invocation/00000000-0000-0000-0000-000000000000/response
< 400 [content-type: application/json] {"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}
> POST /2018-06-01/runtime/invocation/00000000-0000-0000-0000-000000000000/response
< 400 [content-type: application/json] {"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}
> POST /2018-06-01/runtime/invocation/00000000-0000-0000-0000-000000000000/response
< 400 [content-type: application/json] {"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}
exit 4
start
> POST /2018-06-01/runtime/invocation/00000000-0000-0000-0000-000000000000/response
< 400 [content-type: application/json] {"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}
> POST /2018-06-01/runtime/invocation/00000000-0000-0000-0000-000000000000/response
< 400 [content-type: application/json] {"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}
> POST /2018-06-01/runtime/invocation/00000000-0000-0000-0000-000000000000/response
< 400 [content-type: application/json] {"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}
exit 4
"#,
            ),
            (
                "",
                r#"start
> POST /2020-01-01/extension/register [Lambda-Extension-Name: one] {"events":["INVOKE","SHUTDOWN"]}
< 200 [content-type: application/json] [lambda-extension-identifier: <uuid 3>] {"functionName":"lab","functionVersion":"$LATEST","handler":"bootstrap"}
> GET /2020-01-01/extension/event/next [Lambda-Extension-Identifier: <uuid 3>]
< 200 [content-type: text/plain; charset=utf-8] {"deadlineMs":"<2 s or less>","eventType":"SHUTDOWN","shutdownReason":"ReleaseFail"}
exit 0
"#,
            ),
            (
                r#"start
> POST /2018-06-01/runtime/init/error [Lambda-Runtime-Function-Error-Type: Runtime.Asked] {"errorMessage":"as asked","errorType":"Runtime.Asked"}
< 202 [content-type: application/json] {"status":"OK"}
exit 1
start
> POST /2018-06-01/runtime/init/error [Lambda-Runtime-Function-Error-Type: Runtime.Asked] {"errorMessage":"as asked","errorType":"Runtime.Asked"}
< 202 [content-type: application/json] {"status":"OK"}
exit 1
"#,
                r#"start
> POST /2018-06-01/runtime/init/error [Lambda-Runtime-Function-Error-Type: Runtime.Asked] {"errorMessage":"as asked","errorType":"Runtime.Asked"}
< 202 [content-type: application/json] {"status":"OK"}
exit 1
start
> POST /2018-06-01/runtime/init/error [Lambda-Runtime-Function-Error-Type: Runtime.Asked] {"errorMessage":"as asked","errorType":"Runtime.Asked"}
< 202 [content-type: application/json] {"status":"OK"}
exit 1
start
> POST /2018-06-01/runtime/init/error [Lambda-Runtime-Function-Error-Type: Runtime.Asked] {"errorMessage":"as asked","errorType":"Runtime.Asked"}
< 202 [content-type: application/json] {"status":"OK"}
exit 1
"#,
            ),
        ],
        rie: "a failed Init is not repeated before the next invocation: RIE tries, and fails at once (`ErrAgentNameCollision`)",
        lab: "Init is repeated in the first invocation, so that two invocations see three starts",
        why: "Lambda repeats a failed Init as part of the invocation that started it (\"suppressed init\")",
    },
    Difference {
        cases: Cases::Only(&["the runtime exits in Init, once"]),
        who: None,
        texts: &[
            (
                "< 502 [error: 502 Bad Gateway]\n> {}\n",
                r#"< 200 {"ok":true}
> {}
"#,
            ),
            (
                r#"< 200 [content-type: application/json] [lambda-runtime-aws-request-id: <uuid 1>] [lambda-runtime-deadline-ms: <more than 2 s>] [lambda-runtime-invoked-function-arn: arn:aws:lambda:us-east-1:012345678912:function:lab] {}
> POST /2018-06-01/runtime/invocation/<uuid 1>/response [Content-Type: application/json] {"ok":true}
< 202 [content-type: application/json] {"status":"OK"}
> GET /2018-06-01/runtime/invocation/next
"#,
                r#"< 200 [content-type: application/json] [lambda-runtime-aws-request-id: <uuid 1>] [lambda-runtime-deadline-ms: <more than 2 s>] [lambda-runtime-invoked-function-arn: arn:aws:lambda:us-east-1:012345678912:function:lab] {}
> POST /2018-06-01/runtime/invocation/<uuid 1>/response [Content-Type: application/json] {"ok":true}
< 202 [content-type: application/json] {"status":"OK"}
> GET /2018-06-01/runtime/invocation/next
< 200 [content-type: application/json] [lambda-runtime-aws-request-id: <uuid 2>] [lambda-runtime-deadline-ms: <more than 2 s>] [lambda-runtime-invoked-function-arn: arn:aws:lambda:us-east-1:012345678912:function:lab] {}
> POST /2018-06-01/runtime/invocation/<uuid 2>/response [Content-Type: application/json] {"ok":true}
< 202 [content-type: application/json] {"status":"OK"}
> GET /2018-06-01/runtime/invocation/next
"#,
            ),
            (
                r#"< 200 [content-type: application/json] [lambda-extension-event-identifier: <uuid 3>] {"deadlineMs":"<more than 2 s>","eventType":"INVOKE","invokedFunctionArn":"arn:aws:lambda:us-east-1:012345678912:function:lab","requestId":"<uuid 4>"}
> GET /2020-01-01/extension/event/next [Lambda-Extension-Identifier: <uuid 2>]
< 200 [content-type: text/plain; charset=utf-8] {"deadlineMs":"<2 s or less>","eventType":"SHUTDOWN","shutdownReason":"SandboxTerminated"}
"#,
                r#"< 200 [content-type: application/json] [lambda-extension-event-identifier: <uuid 3>] {"deadlineMs":"<more than 2 s>","eventType":"INVOKE","invokedFunctionArn":"arn:aws:lambda:us-east-1:012345678912:function:lab","requestId":"<uuid 4>"}
> GET /2020-01-01/extension/event/next [Lambda-Extension-Identifier: <uuid 2>]
< 200 [content-type: application/json] [lambda-extension-event-identifier: <uuid 5>] {"deadlineMs":"<more than 2 s>","eventType":"INVOKE","invokedFunctionArn":"arn:aws:lambda:us-east-1:012345678912:function:lab","requestId":"<uuid 6>"}
> GET /2020-01-01/extension/event/next [Lambda-Extension-Identifier: <uuid 2>]
< 200 [content-type: text/plain; charset=utf-8] {"deadlineMs":"<2 s or less>","eventType":"SHUTDOWN","shutdownReason":"spindown"}
"#,
            ),
        ],
        rie: "the invocation with the failed Init is lost, for the same reason",
        lab: "Init is repeated, and the invocation succeeds",
        why: "as above",
    },
    Difference {
        cases: Cases::Any,
        who: Some("caller"),
        texts: &[(
            "[error: Sandbox.Timedout] Task timed out after 3.00 seconds",
            r#"[error: Sandbox.Timedout] {"errorType":"Sandbox.Timedout","errorMessage":"RequestId: <uuid 1> Error: Task timed out after 3.00 seconds"}"#,
        )],
        rie: "plain text after a timeout",
        lab: "a JSON error with `X-Amz-Function-Error`",
        why: "a timeout is a function error on Lambda",
    },
    Difference {
        cases: Cases::Only(&["an extension does not call next in time"]),
        who: Some("caller"),
        texts: &[(
            "< 200 [error: Sandbox.Timedout] Task timed out after 3.00 seconds\n> {}\n",
            r#"< 200 {"ok":true}
> {}
"#,
        )],
        rie: "the caller waits for the extension, and gets a timeout",
        lab: "the caller gets the function's response",
        why: "Lambda returns the response of the runtime without waiting for extensions",
    },
];
