//! Credentials of the function's role under `SnapStart`: an endpoint of the Runtime API instead of
//! variables, since a snapshot outlives credentials. Path, bodies and the constant token are those
//! of RIE's `rapi/handler/credentials.go` and `handleRestore`.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use http::StatusCode;
use serde_json::json;
use uuid::Uuid;

use super::machine::ApiResponse;
use crate::credentials;

/// Lifetime of credentials, longer than the freezes of tests: only a restore replaces them.
const LIFETIME: Duration = Duration::from_hours(12);
/// Sessions of one environment at most, so that no two environments share one.
const MAX_SESSIONS: u64 = 1_000_000;

/// Credentials of one environment, which each restore replaces.
#[derive(Debug)]
pub(super) struct RoleCredentials {
    token: String,
    current: Mutex<IssuedSession>,
}

#[derive(Clone, Copy, Debug)]
struct IssuedSession {
    number: u64,
    at: SystemTime,
}

impl RoleCredentials {
    /// Issues the first credentials of an environment.
    pub(super) fn new(environment: usize) -> Self {
        let number = u64::try_from(environment).unwrap_or_default() * MAX_SESSIONS;
        let at = SystemTime::now();
        Self {
            token: Uuid::new_v4().to_string(),
            current: Mutex::new(IssuedSession { number, at }),
        }
    }

    /// Token that requests must carry in `Authorization`.
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// Access key of the current credentials.
    pub(super) fn access_key(&self) -> String {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        credentials::session_key(current.number)
    }

    /// Replaces the credentials. `at` is the environment's wall clock.
    pub(super) fn renew(&self, at: SystemTime) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.number += 1;
        current.at = at;
    }

    /// Response to a request with this value of `Authorization`.
    pub(super) fn response(&self, authorization: Option<&str>) -> ApiResponse {
        if authorization != Some(&*self.token) {
            let message = "cannot get credentials for the provided token\n";
            return ApiResponse::new(StatusCode::NOT_FOUND, message).plain();
        }
        let current = *self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let key = credentials::session_key(current.number);
        let expires = DateTime::from(current.at + LIFETIME).fmt(Format::DateTime);
        let body = json!({
            "AccessKeyId": key,
            "SecretAccessKey": credentials::secret_of(&key),
            "Token": format!("session-{}", current.number),
            "Expiration": expires.unwrap_or_default(),
        });
        ApiResponse::new(StatusCode::OK, body.to_string()).plain()
    }
}
