//! Configuration of the handler, read from the environment once and only in this file.
//!
//! `MODEL_HANDLER`, `MODEL_SOCKET`, `MODEL_TOKEN` and `MODEL_BASE_PATH` are the only variables of our
//! own; the others are Lambda's and OpenTelemetry's. No value stops the handler: the extension reads those four as well
//! and reports invalid ones, and Lambda sets its own variables.

use std::path::PathBuf;

use http::header::HeaderValue;
use tracing::Level;

use crate::attachment::{self, FunctionProcess};
use crate::event::BasePath;
use crate::trace::{self, OtlpSettingError, OtlpSettings};

/// Socket of the sidecar if `MODEL_SOCKET` is not set.
pub const DEFAULT_SOCKET: &str = "/tmp/model-sidecar.sock";

/// Configuration of the handler.
#[derive(Clone, Debug, PartialEq)]
pub struct HandlerSettings {
    /// With `MODEL_HANDLER=attach` this process, which attaches to the sidecar; `None` if it forwards events itself.
    pub attached: Option<FunctionProcess>,
    /// `MODEL_SOCKET`: the sidecar's Unix socket.
    pub socket: PathBuf,
    /// With `MODEL_TOKEN=session` the token that the sidecar requires: the value of
    /// `AWS_SESSION_TOKEN`, or else of `AWS_CONTAINER_AUTHORIZATION_TOKEN`.
    pub token: Option<HeaderValue>,
    /// `MODEL_BASE_PATH`: removed from paths that begin with it.
    pub base_path: BasePath,
    /// `AWS_LAMBDA_RUNTIME_API` is set: started by Lambda or an emulator of it.
    pub on_lambda: bool,
    /// `AWS_LAMBDA_MAX_CONCURRENCY`: concurrent invocations, more than one on managed instances.
    pub concurrency: usize,
    /// `AWS_XRAY_DAEMON_ADDRESS`: receiver of traces.
    pub xray_daemon: Option<String>,
    /// OpenTelemetry's variables: receiver of spans.
    pub otlp: Option<OtlpSettings>,
    /// Errors in OpenTelemetry's variables, to be reported once logs have started.
    pub otlp_errors: Vec<OtlpSettingError>,
    /// `AWS_LAMBDA_LOG_FORMAT` is `JSON`.
    pub json_logs: bool,
    /// `AWS_LAMBDA_LOG_LEVEL`.
    pub log_level: Level,
}

impl HandlerSettings {
    /// Reads the configuration through `variable`, which returns the value of an environment
    /// variable.
    ///
    /// An empty value counts as absent.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let get = |name: &str| variable(name).filter(|value| !value.is_empty());
        let is_attached =
            get("MODEL_HANDLER").is_some_and(|value| value.trim().eq_ignore_ascii_case("attach"));
        let (otlp, otlp_errors) = OtlpSettings::read(&variable);
        Self {
            attached: is_attached.then(|| FunctionProcess {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                variables: attachment::VARIABLES
                    .into_iter()
                    .filter_map(|name| Some((name.to_owned(), get(name)?)))
                    .collect(),
            }),
            socket: get("MODEL_SOCKET")
                .map_or_else(|| PathBuf::from(DEFAULT_SOCKET), PathBuf::from),
            token: get("MODEL_TOKEN")
                .filter(|value| value.trim().eq_ignore_ascii_case("session"))
                .and_then(|_| {
                    get("AWS_SESSION_TOKEN").or_else(|| get("AWS_CONTAINER_AUTHORIZATION_TOKEN"))
                })
                .and_then(|secret| HeaderValue::try_from(secret).ok())
                .map(|mut secret| {
                    secret.set_sensitive(true);
                    secret
                }),
            base_path: BasePath::new(&get("MODEL_BASE_PATH").unwrap_or_default()),
            on_lambda: get("AWS_LAMBDA_RUNTIME_API").is_some(),
            concurrency: get("AWS_LAMBDA_MAX_CONCURRENCY")
                .and_then(|value| value.parse().ok())
                .unwrap_or(1),
            xray_daemon: get(trace::DAEMON_ADDRESS),
            otlp,
            otlp_errors,
            json_logs: get("AWS_LAMBDA_LOG_FORMAT")
                .is_some_and(|value| value.eq_ignore_ascii_case("json")),
            log_level: get("AWS_LAMBDA_LOG_LEVEL").map_or(Level::INFO, |value| log_level(&value)),
        }
    }

    /// Reads the configuration from this process's environment.
    #[must_use]
    pub fn from_env() -> Self {
        Self::read(|name| std::env::var(name).ok())
    }
}

/// Lambda's names of levels; `FATAL` has no equivalent in Rust.
fn log_level(name: &str) -> Level {
    match name.to_ascii_uppercase().as_str() {
        "TRACE" => Level::TRACE,
        "DEBUG" => Level::DEBUG,
        "WARN" => Level::WARN,
        "ERROR" | "FATAL" => Level::ERROR,
        _ => Level::INFO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> HandlerSettings {
        HandlerSettings::read(|name| {
            variables
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn an_empty_environment_gives_the_documented_defaults() {
        let settings = read(&[("MODEL_SOCKET", ""), ("MODEL_BASE_PATH", "")]);
        assert_eq!(settings.attached, None);
        assert_eq!(settings.base_path, BasePath::default());
        assert_eq!(settings.socket, PathBuf::from("/tmp/model-sidecar.sock"));
        assert!(!settings.on_lambda);
        assert_eq!(settings.xray_daemon, None);
        assert!(!settings.json_logs);
        assert_eq!(settings.concurrency, 1);
        assert_eq!(settings.log_level, Level::INFO);
    }

    #[test]
    fn the_token_is_sent_when_configured() {
        let (session, container) = (
            ("AWS_SESSION_TOKEN", "first"),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "second"),
        );
        for (variables, expected) in [
            (&[session, container][..], None),
            (&[("MODEL_TOKEN", "off"), session], None),
            (&[("MODEL_TOKEN", "session")], None),
            (
                &[("MODEL_TOKEN", "Session"), session, container],
                Some("first"),
            ),
            (&[("MODEL_TOKEN", "session"), container], Some("second")),
        ] {
            let settings = read(variables);
            assert_eq!(
                settings.token.as_ref().map(HeaderValue::as_bytes),
                expected.map(str::as_bytes)
            );
            let shown = format!("{settings:?}");
            assert!(!shown.contains("first") && !shown.contains("second"));
        }
    }

    #[test]
    fn an_attached_process_hands_over_what_extensions_do_not_see() {
        assert_eq!(read(&[("MODEL_HANDLER", "forward")]).attached, None);
        let settings = read(&[
            ("MODEL_HANDLER", " Attach "),
            ("_HANDLER", "bootstrap"),
            ("AWS_XRAY_DAEMON_ADDRESS", "169.254.79.129:2000"),
            ("AWS_SESSION_TOKEN", "secret"),
        ]);
        let process = settings.attached.unwrap();
        assert_eq!(process.version, env!("CARGO_PKG_VERSION"));
        let variables: Vec<(&str, &str)> = process
            .variables
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let expected = [
            ("AWS_XRAY_DAEMON_ADDRESS", "169.254.79.129:2000"),
            ("_HANDLER", "bootstrap"),
        ];
        assert_eq!(variables, expected);
    }

    #[test]
    fn lambdas_variables_have_their_usual_meaning() {
        let settings = read(&[
            ("MODEL_SOCKET", "/tmp/other.sock"),
            ("MODEL_BASE_PATH", "scoring/"),
            ("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001"),
            ("AWS_LAMBDA_MAX_CONCURRENCY", "16"),
            ("AWS_XRAY_DAEMON_ADDRESS", "169.254.79.129:2000"),
            ("AWS_LAMBDA_LOG_FORMAT", "JSON"),
            ("AWS_LAMBDA_LOG_LEVEL", "FATAL"),
        ]);
        assert_eq!(settings.socket, PathBuf::from("/tmp/other.sock"));
        assert_eq!(settings.base_path, BasePath::new("/scoring"));
        assert!(settings.on_lambda);
        assert_eq!(settings.xray_daemon.as_deref(), Some("169.254.79.129:2000"));
        assert!(settings.json_logs);
        assert_eq!(settings.concurrency, 16);
        assert_eq!(settings.log_level, Level::ERROR);
    }
}
