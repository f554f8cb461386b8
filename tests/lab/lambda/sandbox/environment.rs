//! The environment variables of each side, as Lambda sets them.
//!
//! The names and values are those of AWS's own emulator
//! (`internal/lambda-managed-instances/rapidcore/env`) and of the developer guide. An extension
//! sees none of what tells a runtime where its code and its logs are. `_X_AMZN_TRACE_ID` is in
//! neither: a runtime sets it itself, from each invocation's header.

use std::collections::BTreeMap;

use crate::credentials;

const LD_LIBRARY_PATH: &str = "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:\
                               /var/task:/var/task/lib:/opt/lib";
const PATH: &str = "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin";
/// Where a runtime is told to look for the X-Ray daemon; nobody listens there.
const XRAY_DAEMON: (&str, &str) = ("169.254.79.129", "2000");

/// What is to be told.
#[derive(Clone, Debug)]
pub struct Facts {
    /// `HOST:PORT` of the Runtime and Extensions APIs.
    pub runtime_api: String,
    /// The function's name.
    pub function_name: String,
    /// The function's version, `$LATEST` or a number.
    pub function_version: String,
    /// The function's memory size, in MB.
    pub memory_mb: u32,
    /// The function's handler setting.
    pub handler: String,
    /// `on-demand`, `provisioned-concurrency`, `snap-start` or `lambda-managed-instances`.
    pub initialization_type: String,
    /// Invocations at once, on managed instances.
    pub max_concurrency: Option<u32>,
    /// The region.
    pub region: String,
    /// The role's keys; none under `SnapStart`.
    pub credentials: Option<Credentials>,
    /// The log group's name.
    pub log_group: String,
    /// The log stream's name.
    pub log_stream: String,
    /// The function's own configuration, which wins over all of the above.
    pub variables: BTreeMap<String, String>,
}

/// Keys of a role.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key: String,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_key: String,
    /// `AWS_SESSION_TOKEN`; the lab's own servers ask for none.
    pub session_token: Option<String>,
}

impl Facts {
    /// A function called `lab` with Lambda's defaults and the keys that the lab's servers accept.
    #[must_use]
    pub fn new(runtime_api: &str) -> Self {
        Self {
            runtime_api: runtime_api.to_owned(),
            function_name: "lab".to_owned(),
            function_version: "$LATEST".to_owned(),
            memory_mb: 128,
            handler: "bootstrap".to_owned(),
            initialization_type: "on-demand".to_owned(),
            max_concurrency: None,
            region: credentials::REGION.to_owned(),
            credentials: Some(Credentials {
                access_key: credentials::ACCESS_KEY.to_owned(),
                secret_key: credentials::SECRET_KEY.to_owned(),
                session_token: None,
            }),
            log_group: "/aws/lambda/lab".to_owned(),
            log_stream: "lab/[$LATEST]0".to_owned(),
            variables: BTreeMap::new(),
        }
    }
}

/// What the runtime sees.
#[must_use]
pub fn runtime(facts: &Facts) -> BTreeMap<String, String> {
    let (address, port) = XRAY_DAEMON;
    let mut variables = both(facts);
    set(
        &mut variables,
        [
            ("_HANDLER", &*facts.handler),
            ("LAMBDA_TASK_ROOT", "/var/task"),
            ("LAMBDA_RUNTIME_DIR", "/var/runtime"),
            ("AWS_LAMBDA_LOG_GROUP_NAME", &facts.log_group),
            ("AWS_LAMBDA_LOG_STREAM_NAME", &facts.log_stream),
            ("AWS_XRAY_CONTEXT_MISSING", "LOG_ERROR"),
            ("AWS_XRAY_DAEMON_ADDRESS", &format!("{address}:{port}")),
            ("_AWS_XRAY_DAEMON_ADDRESS", address),
            ("_AWS_XRAY_DAEMON_PORT", port),
        ],
    );
    if let Some(concurrency) = facts.max_concurrency {
        let concurrency = concurrency.to_string();
        set(
            &mut variables,
            [("AWS_LAMBDA_MAX_CONCURRENCY", &*concurrency)],
        );
    }
    variables.extend(facts.variables.clone());
    variables
}

/// What an extension sees.
#[must_use]
pub fn extension(facts: &Facts) -> BTreeMap<String, String> {
    let mut variables = both(facts);
    variables.extend(facts.variables.clone());
    variables
}

fn both(facts: &Facts) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    set(
        &mut variables,
        [
            ("AWS_LAMBDA_RUNTIME_API", &*facts.runtime_api),
            ("AWS_LAMBDA_FUNCTION_NAME", &facts.function_name),
            ("AWS_LAMBDA_FUNCTION_VERSION", &facts.function_version),
            (
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
                &facts.memory_mb.to_string(),
            ),
            ("AWS_LAMBDA_INITIALIZATION_TYPE", &facts.initialization_type),
            ("AWS_REGION", &facts.region),
            ("AWS_DEFAULT_REGION", &facts.region),
            ("PATH", PATH),
            ("LD_LIBRARY_PATH", LD_LIBRARY_PATH),
            ("LANG", "en_US.UTF-8"),
            ("TZ", ":UTC"),
        ],
    );
    if let Some(keys) = &facts.credentials {
        set(
            &mut variables,
            [
                ("AWS_ACCESS_KEY_ID", &*keys.access_key),
                ("AWS_SECRET_ACCESS_KEY", &keys.secret_key),
            ],
        );
        if let Some(token) = &keys.session_token {
            set(&mut variables, [("AWS_SESSION_TOKEN", &**token)]);
        }
    }
    variables
}

fn set<'a>(
    variables: &mut BTreeMap<String, String>,
    more: impl IntoIterator<Item = (&'a str, &'a str)>,
) {
    let more = more.into_iter();
    variables.extend(more.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extension_is_told_nothing_that_is_the_runtimes_alone() {
        let mut facts = Facts::new("127.0.0.1:9001");
        facts.max_concurrency = Some(8);
        let runtime = runtime(&facts);
        let extension = extension(&facts);
        assert!(
            extension
                .iter()
                .all(|(name, value)| runtime.get(name) == Some(value))
        );
        let hidden: Vec<_> = runtime
            .keys()
            .filter(|name| !extension.contains_key(*name))
            .collect();
        assert_eq!(
            hidden,
            [
                "AWS_LAMBDA_LOG_GROUP_NAME",
                "AWS_LAMBDA_LOG_STREAM_NAME",
                "AWS_LAMBDA_MAX_CONCURRENCY",
                "AWS_XRAY_CONTEXT_MISSING",
                "AWS_XRAY_DAEMON_ADDRESS",
                "LAMBDA_RUNTIME_DIR",
                "LAMBDA_TASK_ROOT",
                "_AWS_XRAY_DAEMON_ADDRESS",
                "_AWS_XRAY_DAEMON_PORT",
                "_HANDLER",
            ]
        );
    }

    #[test]
    fn the_functions_own_configuration_wins_on_both_sides() {
        let mut facts = Facts::new("127.0.0.1:9001");
        facts
            .variables
            .insert("AWS_REGION".into(), "eu-west-1".into());
        for variables in [runtime(&facts), extension(&facts)] {
            assert_eq!(variables["AWS_REGION"], "eu-west-1");
            assert_eq!(variables["AWS_DEFAULT_REGION"], "eu-central-1");
        }
    }

    #[test]
    fn without_a_role_there_are_no_keys() {
        let mut facts = Facts::new("127.0.0.1:9001");
        facts.credentials = None;
        let variables = extension(&facts);
        assert!(!variables.contains_key("AWS_ACCESS_KEY_ID"));
        assert!(!variables.contains_key("AWS_SECRET_ACCESS_KEY"));
    }
}
