//! Calls of the runtime. On demand the runtime is one caller that goes through RIE's states. On
//! managed instances there is one caller per call of `next`, and each takes an event.

use std::collections::VecDeque;

use bytes::Bytes;
use http::StatusCode;
use uuid::Uuid;

use super::super::MAX_RESPONSE;
use super::in_flight::InFlight;
use super::response::function_error;
use super::{ApiResponse, Effect, Effects, Machine, Now, Phase, ProcessRole};

#[derive(Debug, Default)]
pub(super) struct Runtime {
    state: RuntimeState,
    /// Pending calls of `next`.
    waiting: VecDeque<Uuid>,
    /// Error reported through `init/error`.
    init_error: Option<Bytes>,
}

/// States of RIE, and one for a runtime that is not started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum RuntimeState {
    #[default]
    NotStarted,
    Started,
    InitError,
    /// The runtime waits for the restore.
    RestoreReady,
    /// The runtime was told of the restore, and has not yet called `next`.
    Restoring,
    RestoreError,
    Ready,
    Running,
    ResponseSent,
}

impl RuntimeState {
    fn name(self) -> &'static str {
        match self {
            Self::NotStarted | Self::Started => "Started",
            Self::InitError => "InitError",
            Self::RestoreReady => "RestoreReady",
            Self::Restoring => "Restoring",
            Self::RestoreError => "RuntimeRestoreErrorState",
            Self::Ready => "Ready",
            Self::Running => "Running",
            Self::ResponseSent => "RuntimeResponseSentState",
        }
    }
}

impl Runtime {
    pub(super) fn is_started(&self) -> bool {
        self.state != RuntimeState::NotStarted
    }

    pub(super) fn is_ready(&self) -> bool {
        self.state == RuntimeState::Ready
    }

    pub(super) fn waits_for_restore(&self) -> bool {
        self.state == RuntimeState::RestoreReady
    }

    pub(super) fn init_error(&self) -> Option<&Bytes> {
        self.init_error.as_ref()
    }

    pub(super) fn forget(&mut self, call: Uuid) {
        self.waiting.retain(|waiting| *waiting != call);
    }
}

impl Machine {
    /// Resets the state of the runtime after the exit of its process.
    pub(super) fn forget_runtime(&mut self) {
        self.runtime = Runtime::default();
    }

    /// Starts the runtime, once every started extension has registered.
    pub(super) fn start_runtime(&mut self, effects: &mut Effects) {
        self.runtime.state = RuntimeState::Started;
        self.alive.insert(ProcessRole::Runtime);
        effects.push(Effect::Start(self.generation, ProcessRole::Runtime));
    }

    pub(super) fn runtime_next(
        &mut self,
        now: Now,
        call: Uuid,
        effects: &mut Effects,
    ) -> Option<ApiResponse> {
        if matches!(self.phase, Phase::Ending(_)) {
            // No event follows; SIGTERM or SIGKILL ends the process.
            self.runtime.waiting.push_back(call);
            return None;
        }
        match self.runtime.state {
            RuntimeState::NotStarted => return Some(ApiResponse::internal()),
            RuntimeState::InitError | RuntimeState::RestoreReady | RuntimeState::RestoreError => {
                let state = self.runtime.state.name();
                return Some(ApiResponse::no_way_for_runtime(state, "Ready"));
            }
            // The runtime calls `next` again without a response: it gets the same event.
            RuntimeState::Running => return self.in_flight.first().map(|one| self.event(one)),
            RuntimeState::Started => self.registration = false,
            RuntimeState::ResponseSent => {
                if let Some(one) = self.in_flight.first_mut() {
                    one.runtime_done = Some(now.active);
                }
            }
            RuntimeState::Restoring | RuntimeState::Ready => {}
        }
        self.runtime.state = RuntimeState::Ready;
        self.runtime.waiting.push_back(call);
        if self.setup.managed {
            self.deliver_event(effects);
        }
        None
    }

    /// Delivers an event to the runtime.
    pub(super) fn deliver_event(&mut self, effects: &mut Effects) {
        for place in 0..self.in_flight.len() {
            let Some(one) = self.in_flight.get(place).filter(|one| !one.delivered) else {
                continue;
            };
            if !self.setup.managed {
                self.runtime.state = RuntimeState::Running;
            }
            let Some(call) = self.runtime.waiting.pop_front() else {
                break;
            };
            effects.push(Effect::Reply(call, self.event(one)));
            if let Some(one) = self.in_flight.get_mut(place) {
                one.delivered = true;
            }
        }
    }

    fn event(&self, one: &InFlight) -> ApiResponse {
        let event = &one.event;
        let reply = ApiResponse::new(StatusCode::OK, event.payload.clone())
            .with("lambda-runtime-aws-request-id", &event.id)
            .with("lambda-runtime-trace-id", &event.trace)
            .with("lambda-runtime-invoked-function-arn", &self.setup.arn)
            .with("lambda-runtime-deadline-ms", one.deadline_ms.to_string());
        match &event.client_context {
            Some(context) => reply.with("lambda-runtime-client-context", context),
            None => reply,
        }
    }

    pub(super) fn response(
        &mut self,
        now: Now,
        id: &str,
        mode: Option<&str>,
        body: Bytes,
        effects: &mut Effects,
    ) -> ApiResponse {
        let (body, failed, reply) = if mode.is_some_and(|mode| mode != "streaming") {
            let kind = "Runtime.InvalidResponseModeHeader";
            let body = function_error(kind, "Unknown application error occurred");
            (body, true, ApiResponse::invalid_mode())
        } else if body.len() > MAX_RESPONSE {
            let message = format!(
                "Response payload size ({} bytes) exceeded maximum allowed payload size \
                 ({MAX_RESPONSE} bytes).",
                body.len()
            );
            let body = function_error("Function.ResponseSizeTooLarge", &message);
            (body, true, ApiResponse::too_long())
        } else {
            (body, false, ApiResponse::accepted())
        };
        match self.answer(now, id, "InvocationResponse", body, failed, effects) {
            Ok(()) => reply,
            Err(response) => response,
        }
    }

    pub(super) fn error(
        &mut self,
        now: Now,
        id: &str,
        body: Bytes,
        effects: &mut Effects,
    ) -> ApiResponse {
        match self.answer(now, id, "InvocationErrorResponse", body, true, effects) {
            Ok(()) => ApiResponse::accepted(),
            Err(response) => response,
        }
    }

    fn answer(
        &mut self,
        now: Now,
        id: &str,
        transition: &str,
        body: Bytes,
        failed: bool,
        effects: &mut Effects,
    ) -> Result<(), ApiResponse> {
        let managed = self.setup.managed;
        let mut known = self.in_flight.iter_mut();
        let one = known.find(|one| one.event.id == id && (!managed || one.delivered));
        let Some(one) = one else {
            let late = self.late.remove(id);
            return Err(if late {
                ApiResponse::too_late()
            } else {
                ApiResponse::invalid_request_id()
            });
        };
        if managed {
            one.runtime_done = Some(now.active);
        } else if self.runtime.state == RuntimeState::Running {
            self.runtime.state = RuntimeState::ResponseSent;
        } else {
            let state = self.runtime.state.name();
            return Err(ApiResponse::no_way_for_runtime(state, transition));
        }
        one.answered = true;
        effects.push(Effect::Answer {
            id: id.to_owned(),
            body,
            failed,
        });
        Ok(())
    }

    /// Responds to `restore/next`: with the restore, or at once in an Init within an invocation,
    /// which no snapshot follows.
    pub(super) fn restore_next(
        &mut self,
        call: Uuid,
        effects: &mut Effects,
    ) -> Option<ApiResponse> {
        if !self.setup.snap_start {
            return Some(ApiResponse::no_such_path());
        }
        if matches!(self.phase, Phase::Ending(_)) {
            self.runtime.waiting.push_back(call);
            return None;
        }
        if self.runtime.state != RuntimeState::Started {
            let state = self.runtime.state.name();
            return Some(ApiResponse::no_way_for_runtime(state, "Ready"));
        }
        self.registration = false;
        self.runtime.state = RuntimeState::RestoreReady;
        self.runtime.waiting.push_back(call);
        if !self.is_first_init() {
            self.tell_of_restore(effects);
        }
        None
    }

    /// Tells a runtime that waits for the restore. Returns `false` if it waits for events instead.
    pub(super) fn tell_of_restore(&mut self, effects: &mut Effects) -> bool {
        if !self.runtime.waits_for_restore() {
            return false;
        }
        self.runtime.state = RuntimeState::Restoring;
        for call in self.runtime.waiting.drain(..) {
            effects.push(Effect::Reply(call, ApiResponse::restored()));
        }
        true
    }

    /// Ends a restore, after an error of the runtime's hooks.
    pub(super) fn restore_error(
        &mut self,
        now: Now,
        kind: Option<String>,
        effects: &mut Effects,
    ) -> ApiResponse {
        if !self.setup.snap_start {
            return ApiResponse::no_such_path();
        }
        if self.runtime.state != RuntimeState::Restoring {
            let state = self.runtime.state.name();
            let to = RuntimeState::RestoreError.name();
            return ApiResponse::no_way_for_runtime(state, to);
        }
        self.runtime.state = RuntimeState::RestoreError;
        let kind = kind.unwrap_or_else(|| "Runtime.Unknown".to_owned());
        self.restore_failed(
            now,
            &kind,
            "the runtime reported an error of its restore",
            effects,
        );
        ApiResponse::accepted()
    }

    /// Records a failed Init, reported by the runtime. Init ends when the process exits.
    pub(super) fn runtime_init_error(
        &mut self,
        now: Now,
        body: Bytes,
        kind: Option<String>,
        effects: &mut Effects,
    ) -> ApiResponse {
        // Runtimes from before `restore/error` report errors of a restore here.
        if self.runtime.state == RuntimeState::Restoring {
            return self.restore_error(now, kind, effects);
        }
        if self.runtime.state != RuntimeState::Started {
            return ApiResponse::no_way_for_runtime(self.runtime.state.name(), "InitError");
        }
        self.runtime.state = RuntimeState::InitError;
        self.runtime.init_error = Some(body);
        ApiResponse::accepted()
    }
}
