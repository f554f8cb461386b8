//! Extensions: registration and the calls allowed afterwards. A program of `/opt/extensions` is
//! external. Any other name is an internal extension, a part of the runtime's process, which may
//! register for INVOKE until the runtime calls `next`.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::MAX_EXTENSIONS;
use super::ending::Ending;
use super::in_flight::InFlight;
use super::{ApiResponse, Effect, Effects, Machine, Phase};

const IDENTIFIER: &str = "lambda-extension-identifier";
const EVENT_IDENTIFIER: &str = "lambda-extension-event-identifier";

#[derive(Debug)]
pub(super) struct Extension {
    name: String,
    origin: Origin,
    /// Identifier, assigned at registration.
    identifier: Option<Uuid>,
    state: ExtensionState,
    invoke: bool,
    shutdown: bool,
    /// `true` once SHUTDOWN was delivered, the last event.
    shutdown_delivered: bool,
    /// Pending call of `next`.
    waiting: Option<Uuid>,
    /// Type of the reported error, or of the failure to start.
    error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// A program of `/opt/extensions`.
    External,
    /// A part of the runtime's process.
    Internal,
}

/// States of RIE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExtensionState {
    Started,
    Registered,
    Ready,
    Running,
    InitError,
    ExitError,
    LaunchError,
}

/// Error report of an extension before it exits.
#[derive(Clone, Copy, Debug)]
pub(super) enum ErrorReport {
    Init,
    Exit,
}

#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[derive(Default)]
struct Registration {
    events: Option<Vec<String>>,
    configuration_keys: Option<Vec<String>>,
}

/// Fields in RIE's order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Registered<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    account_id: Option<&'a str>,
    function_name: &'a str,
    function_version: &'a str,
    handler: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InvokeEvent<'a> {
    event_type: &'a str,
    deadline_ms: u64,
    request_id: &'a str,
    invoked_function_arn: &'a str,
    tracing: Tracing<'a>,
}

#[derive(Serialize)]
struct Tracing<'a> {
    r#type: &'a str,
    value: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShutdownEvent<'a> {
    event_type: &'a str,
    deadline_ms: u64,
    shutdown_reason: &'a str,
}

impl Extension {
    pub(super) fn external(name: &str) -> Self {
        Self::new(name, Origin::External)
    }

    fn new(name: &str, origin: Origin) -> Self {
        Self {
            name: name.to_owned(),
            origin,
            identifier: None,
            state: ExtensionState::Started,
            invoke: false,
            shutdown: false,
            shutdown_delivered: false,
            waiting: None,
            error: None,
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.state == ExtensionState::Ready
    }

    /// Returns `true` if the extension must still call `next` before an invocation ends.
    pub(super) fn is_busy(&self) -> bool {
        self.invoke && !self.is_ready()
    }

    pub(super) fn wants_shutdown(&self) -> bool {
        self.shutdown
    }

    pub(super) fn not_launched(&mut self, why: &str) {
        self.state = ExtensionState::LaunchError;
        self.error = Some(why.to_owned());
    }

    pub(super) fn forget(&mut self, call: Uuid) {
        self.waiting.take_if(|waiting| *waiting == call);
    }

    /// Log line about the extension at the end of Init.
    pub(super) fn line(&self) -> String {
        let events = [(self.invoke, "INVOKE"), (self.shutdown, "SHUTDOWN")];
        let events: Vec<_> = events
            .iter()
            .filter(|(is, _)| *is)
            .map(|(_, name)| *name)
            .collect();
        let error = self.error.as_ref();
        format!(
            "EXTENSION\tName: {}\tState: {}\tEvents: [{}]{}",
            self.name,
            self.state.name(),
            events.join(", "),
            error.map_or_else(String::new, |error| format!("\tError Type: {error}")),
        )
    }

    /// Delivers an event to a pending `next`.
    fn deliver(&mut self, reply: impl FnOnce(Uuid) -> ApiResponse, effects: &mut Effects) {
        self.state = ExtensionState::Running;
        if let Some(call) = self.waiting.take() {
            effects.push(Effect::Reply(call, reply(call)));
        }
    }

    pub(super) fn deliver_invoke(&mut self, one: &InFlight, arn: &str, effects: &mut Effects) {
        if self.invoke && self.is_ready() {
            let body = InvokeEvent {
                event_type: "INVOKE",
                deadline_ms: one.deadline_ms,
                request_id: &one.event.id,
                invoked_function_arn: arn,
                tracing: Tracing {
                    r#type: "X-Amzn-Trace-Id",
                    value: &one.event.trace,
                },
            };
            let named = |call: Uuid| event(&body).with(EVENT_IDENTIFIER, call.to_string());
            self.deliver(named, effects);
        }
    }

    /// Delivers SHUTDOWN to a pending `next`; otherwise the next call returns it.
    pub(super) fn deliver_shutdown(&mut self, ending: &Ending, effects: &mut Effects) {
        if self.waiting.is_some() && !self.shutdown_delivered {
            self.shutdown_delivered = true;
            let reason = ending.reason.to_string();
            let body = ShutdownEvent {
                event_type: "SHUTDOWN",
                deadline_ms: ending.deadline_ms,
                shutdown_reason: &reason,
            };
            // RIE's renderer sets no content type for this event.
            self.deliver(|_| event(&body).plain(), effects);
        }
    }
}

impl ExtensionState {
    fn name(self) -> &'static str {
        match self {
            Self::Started => "Started",
            Self::Registered => "Registered",
            Self::Ready => "Ready",
            Self::Running => "Running",
            Self::InitError => "InitError",
            Self::ExitError => "ExitError",
            Self::LaunchError => "LaunchError",
        }
    }
}

impl ErrorReport {
    fn kind(self) -> &'static str {
        match self {
            Self::Init => "Extension.InitError",
            Self::Exit => "Extension.ExitError",
        }
    }

    fn stage(self) -> ExtensionState {
        match self {
            Self::Init => ExtensionState::InitError,
            Self::Exit => ExtensionState::ExitError,
        }
    }

    fn may_follow(self, stage: ExtensionState) -> bool {
        match self {
            Self::Init => stage == ExtensionState::Registered,
            Self::Exit => matches!(
                stage,
                ExtensionState::Registered | ExtensionState::Ready | ExtensionState::Running
            ),
        }
    }
}

impl Machine {
    pub(super) fn register(
        &mut self,
        call: Uuid,
        name: Option<&str>,
        account: bool,
        body: &[u8],
        effects: &mut Effects,
    ) -> ApiResponse {
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return ApiResponse::forbidden(
                "Extension.InvalidExtensionName",
                "Empty extension name",
            );
        };
        let events = match events(body) {
            Ok(events) => events,
            Err(why) => return ApiResponse::forbidden("InvalidRequestFormat", &why),
        };
        let known = self
            .extensions
            .iter()
            .position(|one| one.origin == Origin::External && one.name == name);
        if let Err(why) = self.check_events(&events, known.is_some()) {
            return ApiResponse::forbidden("Extension.InvalidEventType", &why);
        }
        let place = match known.map_or_else(|| self.add_internal(name), Ok) {
            Ok(place) => place,
            Err(response) => return response,
        };
        let Some(extension) = self.extensions.get_mut(place) else {
            return ApiResponse::internal();
        };
        if extension.state != ExtensionState::Started {
            return ApiResponse::no_way_for_extension(extension.state.name(), "Registered", name);
        }
        extension.state = ExtensionState::Registered;
        extension.identifier = Some(call);
        extension.invoke = events.iter().any(|event| event == "INVOKE");
        extension.shutdown = events.iter().any(|event| event == "SHUTDOWN");
        let all = self
            .extensions
            .iter()
            .all(|one| one.state != ExtensionState::Started);
        if all && matches!(self.phase, Phase::Init(_)) && !self.runtime.is_started() {
            self.start_runtime(effects);
        }
        let facts = Registered {
            account_id: account.then_some(&*self.setup.account),
            function_name: &self.setup.function_name,
            function_version: "$LATEST",
            handler: &self.setup.handler,
        };
        let text = serde_json::to_string(&facts).unwrap_or_default() + "\n";
        ApiResponse::new(StatusCode::OK, text).with(IDENTIFIER, call.to_string())
    }

    fn check_events(&self, events: &[String], external: bool) -> Result<(), String> {
        if self.setup.managed && !external && !events.is_empty() {
            return Err("No events allowed for internal extensions".to_owned());
        }
        for event in events {
            let why = match (&**event, external) {
                ("INVOKE", _) if !self.setup.managed => continue,
                ("SHUTDOWN", true) => continue,
                ("SHUTDOWN", false) => "ShutdownEventNotSupportedForInternalExtension",
                _ => "ErrorInvalidEventType",
            };
            return Err(format!("{event}: {why}"));
        }
        Ok(())
    }

    fn add_internal(&mut self, name: &str) -> Result<usize, ApiResponse> {
        if !self.registration {
            return Err(ApiResponse::forbidden(
                "Extension.RegistrationClosed",
                "Extension registration closed already",
            ));
        }
        if self.extensions.len() >= MAX_EXTENSIONS {
            let message = format!("Extension limit ({MAX_EXTENSIONS}) reached");
            return Err(ApiResponse::forbidden(
                "Extension.TooManyExtensions",
                &message,
            ));
        }
        if self.extensions.iter().any(|one| one.name == name) {
            return Err(ApiResponse::forbidden(
                "Extension.InvalidExtensionState",
                "Extension with this name already registered",
            ));
        }
        self.extensions.push(Extension::new(name, Origin::Internal));
        Ok(self.extensions.len() - 1)
    }

    pub(super) fn extension_next(
        &mut self,
        call: Uuid,
        from: Option<&str>,
        effects: &mut Effects,
    ) -> Option<ApiResponse> {
        let (identifier, place) = match self.find(from) {
            Ok((identifier, Some(place))) => (identifier, place),
            Ok((identifier, None)) => return Some(ApiResponse::unknown_extension(identifier)),
            Err(response) => return Some(response),
        };
        let extension = self.extensions.get_mut(place)?;
        if !matches!(
            extension.state,
            ExtensionState::Registered | ExtensionState::Running
        ) {
            let state = extension.state.name();
            return Some(ApiResponse::no_way_for_extension(
                state,
                "Ready",
                &identifier.to_string(),
            ));
        }
        extension.state = ExtensionState::Ready;
        extension.waiting = Some(call);
        if let Phase::Ending(ending) = &self.phase
            && ending.notifies_extensions()
            && extension.shutdown
        {
            extension.deliver_shutdown(ending, effects);
        }
        None
    }

    pub(super) fn extension_error(
        &mut self,
        fault: ErrorReport,
        from: Option<&str>,
        kind: Option<String>,
    ) -> ApiResponse {
        let (identifier, place) = match self.find(from) {
            Ok(found) => found,
            Err(response) => return response,
        };
        let Some(kind) = kind.filter(|kind| !kind.is_empty()) else {
            return ApiResponse::forbidden(
                "Extension.MissingHeader",
                "Lambda-Extension-Function-Error-Type not found",
            );
        };
        let Some(extension) = place.and_then(|place| self.extensions.get_mut(place)) else {
            return ApiResponse::forbidden(
                "Extension.UnknownExtensionIdentifier",
                "Unknown Lambda-Extension-Identifier",
            );
        };
        let to = fault.stage();
        if fault.may_follow(extension.state) {
            extension.state = to;
            extension.error = Some(kind);
        } else if extension.state != to {
            // After a repeated report the first one stays.
            let from = extension.state.name();
            let to = match fault {
                ErrorReport::Init => "InitError",
                ErrorReport::Exit => "Exited",
            };
            return ApiResponse::no_way_for_extension(from, to, &identifier.to_string());
        }
        self.fatal.get_or_insert(fault.kind());
        ApiResponse::accepted()
    }

    fn find(&self, from: Option<&str>) -> Result<(Uuid, Option<usize>), ApiResponse> {
        let Some(from) = from.filter(|from| !from.is_empty()) else {
            return Err(ApiResponse::forbidden(
                "Extension.MissingExtensionIdentifier",
                "Missing Lambda-Extension-Identifier header",
            ));
        };
        let Ok(identifier) = Uuid::try_parse(from) else {
            return Err(ApiResponse::forbidden(
                "Extension.InvalidExtensionIdentifier",
                "Invalid Lambda-Extension-Identifier",
            ));
        };
        let mut extensions = self.extensions.iter();
        Ok((
            identifier,
            extensions.position(|one| one.identifier == Some(identifier)),
        ))
    }
}

fn events(body: &[u8]) -> Result<Vec<String>, String> {
    if body.is_empty() {
        return Err("unexpected end of JSON input".to_owned());
    }
    let registration: Registration =
        serde_json::from_slice(body).map_err(|error| error.to_string())?;
    if registration
        .configuration_keys
        .is_some_and(|keys| !keys.is_empty())
    {
        return Err(
            "configurationKeys are deprecated; use environment variables instead".to_owned(),
        );
    }
    Ok(registration.events.unwrap_or_default())
}

fn event(body: &impl Serialize) -> ApiResponse {
    ApiResponse::new(StatusCode::OK, serde_json::to_vec(body).unwrap_or_default())
}
