//! Environment variables of runtime and extensions, as Lambda sets them.
//!
//! Names and values are those of AWS's own emulator
//! (`internal/lambda-managed-instances/rapidcore/env`) and of the developer guide. An extension
//! does not get the variables that describe a runtime's code and logs. `_X_AMZN_TRACE_ID` is in
//! neither: a runtime sets it itself, from each invocation's header.

use std::collections::BTreeMap;

use crate::credentials;

const LD_LIBRARY_PATH: &str = "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:\
                               /var/task:/var/task/lib:/opt/lib";
const PATH: &str = "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin";
/// Address of the X-Ray daemon on Lambda; nothing listens there.
const XRAY_DAEMON: &str = "169.254.79.129:2000";

/// Values of the variables.
#[derive(Clone, Debug)]
pub struct Facts {
    /// `HOST:PORT` of the Runtime and Extensions APIs.
    pub runtime_api: String,
    /// Name of the function.
    pub function_name: String,
    /// Version of the function, `$LATEST` or a number.
    pub function_version: String,
    /// Memory size of the function, in MB.
    pub memory_mb: u32,
    /// Handler of the function.
    pub handler: String,
    /// `on-demand`, `provisioned-concurrency`, `snap-start` or `lambda-managed-instances`.
    pub initialization_type: String,
    /// Maximum concurrency on managed instances.
    pub max_concurrency: Option<u32>,
    /// Region.
    pub region: String,
    /// Keys of the role; none under `SnapStart`.
    pub credentials: Option<Credentials>,
    /// Endpoint of the role's keys under `SnapStart`.
    pub container_credentials: Option<ContainerCredentials>,
    /// Name of the log group.
    pub log_group: String,
    /// Name of the log stream.
    pub log_stream: String,
    /// `IP:PORT` of the X-Ray daemon.
    pub xray_daemon: String,
    /// Variables of the function's configuration, which override all others.
    pub variables: BTreeMap<String, String>,
}

/// Keys of a role.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key: String,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_key: String,
    /// `AWS_SESSION_TOKEN`; the lab's servers require none.
    pub session_token: Option<String>,
}

/// Endpoint of a role's keys.
#[derive(Clone, Debug)]
pub struct ContainerCredentials {
    /// `AWS_CONTAINER_CREDENTIALS_FULL_URI`.
    pub uri: String,
    /// `AWS_CONTAINER_AUTHORIZATION_TOKEN`.
    pub token: String,
}

impl Facts {
    /// A function named `lab` with Lambda's defaults and the keys that the lab's servers accept.
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
            container_credentials: None,
            log_group: "/aws/lambda/lab".to_owned(),
            log_stream: "lab/[$LATEST]0".to_owned(),
            xray_daemon: XRAY_DAEMON.to_owned(),
            variables: BTreeMap::new(),
        }
    }
}

/// Variables of the runtime.
#[must_use]
pub fn runtime(facts: &Facts) -> BTreeMap<String, String> {
    let daemon = &*facts.xray_daemon;
    let (address, port) = daemon.rsplit_once(':').unwrap_or((daemon, ""));
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
            ("AWS_XRAY_DAEMON_ADDRESS", daemon),
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

/// Variables of an extension.
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
    if let Some(endpoint) = &facts.container_credentials {
        set(
            &mut variables,
            [
                ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &*endpoint.uri),
                ("AWS_CONTAINER_AUTHORIZATION_TOKEN", &endpoint.token),
            ],
        );
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
    fn an_extension_gets_no_variable_of_the_runtime() {
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
