//! Processing of a batch of SQS messages.
//!
//! Messages with rows for the same model are combined into one request, and so one run of the
//! model. If the sidecar rejects its content, the request is split in halves and retried until the
//! faulty messages are alone. Only the response to a single message decides. If the model's output
//! cannot be assigned to rows, each message is sent alone as well.
//!
//! Every message is either processed or returned to SQS as a batch item failure; none is lost. If
//! no message was processed the invocation itself fails. That returns all messages as well, is
//! counted by Lambda as an error, slows down polling, and needs no `ReportBatchItemFailures`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::event::{Batch, Call, Message};
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::response::{self, BatchResponse, FunctionResponse};
use crate::transport::{self, SidecarResponse, Transport};

/// Sends the messages to the sidecar, within the invocation's time.
pub async fn process(
    transport: &impl Transport,
    batch: Batch,
    invocation: &Invocation,
) -> Result<FunctionResponse, Failure> {
    let messages = batch.messages;
    let mut parts = parts(&messages);
    let mut failed = Failed::default();
    let mut calls = 0_usize;
    // The first part is popped last-in, so that messages are processed roughly in order.
    parts.reverse();
    while let Some(part) = parts.pop() {
        let call = match call(&messages, &part) {
            Ok(call) => call,
            Err(failure) => {
                failed.all(&messages, &part, failure);
                continue;
            }
        };
        calls += 1;
        match judge(
            transport::send(transport, call, invocation).await,
            &messages,
            &part,
        ) {
            PartOutcome::Processed => {}
            PartOutcome::Halve => {
                let (first, second) = part.split_at(part.len() / 2);
                parts.extend([second.to_vec(), first.to_vec()]);
            }
            PartOutcome::Alone => parts.extend(part.iter().rev().map(|&one| vec![one])),
            PartOutcome::Failed(failure) => failed.all(&messages, &part, failure),
            PartOutcome::Over(failure) => {
                let rest: Vec<usize> = part
                    .into_iter()
                    .chain(parts.drain(..).rev().flatten())
                    .collect();
                failed.all(&messages, &rest, failure);
            }
        }
    }
    failed.hold_back_groups(&messages);
    tracing::info!(
        messages = messages.len(),
        failed = failed.places.len(),
        calls,
        "processed a batch of messages"
    );
    match failed.first {
        Some(failure) if failed.places.len() == messages.len() => Err(failure),
        _ => {
            let ids = failed
                .places
                .iter()
                .map(|&place| messages[place].id.clone());
            Ok(FunctionResponse::Batch(BatchResponse::failures(ids)))
        }
    }
}

/// Indices of the messages of one request.
type Part = Vec<usize>;

/// Groups messages with rows of the same form for the same model, in the order of their first
/// messages.
fn parts(messages: &[Message]) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut known = BTreeMap::new();
    for (place, message) in messages.iter().enumerate() {
        let (Ok(call), Some(rows)) = (&message.call, &message.rows) else {
            parts.push(vec![place]);
            continue;
        };
        let part = *known
            .entry((call.target.as_str(), rows.by_name))
            .or_insert_with(|| {
                parts.push(Vec::new());
                parts.len() - 1
            });
        parts[part].push(place);
    }
    parts
}

/// The call of one message, or the combined call of several.
fn call(messages: &[Message], part: &[usize]) -> Result<Call, Failure> {
    let first = &messages[part[0]];
    let mut call = first.call.clone().map_err(Failure::BadRequest)?;
    if part.len() > 1 {
        let rows = part
            .iter()
            .filter_map(|&place| messages[place].rows.as_ref());
        let texts: Vec<&str> = rows.map(|rows| rows.text.as_str()).collect();
        call.body = Bytes::from(format!("{{\"features\":[{}]}}", texts.join(",")));
    }
    Ok(call)
}

enum PartOutcome {
    /// All messages of the part were processed.
    Processed,
    /// The part contains a faulty message.
    Halve,
    /// The output cannot be assigned to the messages.
    Alone,
    /// All messages of the part failed.
    Failed(Failure),
    /// The sidecar is unavailable or the time is up: this part and all remaining ones fail.
    Over(Failure),
}

fn judge(
    answer: Result<SidecarResponse, Failure>,
    messages: &[Message],
    part: &[usize],
) -> PartOutcome {
    let is_joint = part.len() > 1;
    let answer = match answer {
        Ok(answer) => answer,
        Err(Failure::TooLarge) if is_joint => return PartOutcome::Halve,
        Err(failure @ (Failure::TooLarge | Failure::BadRequest(_))) => {
            return PartOutcome::Failed(failure);
        }
        Err(failure) => return PartOutcome::Over(failure),
    };
    match response::sidecar_error(&answer) {
        Some(_) if is_joint && is_about_content(answer.status) => PartOutcome::Halve,
        Some(failure) => PartOutcome::Failed(failure),
        None if is_joint && predictions(&answer) != Some(rows(messages, part)) => {
            PartOutcome::Alone
        }
        None => {
            // SQS takes no response, so the log is the only place that shows it.
            tracing::debug!(
                messages = ?part.iter().map(|&place| messages[place].id.as_str()).collect::<Vec<_>>(),
                response = %String::from_utf8_lossy(&answer.body),
                "processed messages"
            );
            PartOutcome::Processed
        }
    }
}

/// Returns `true` if other content might succeed: the content is invalid or too large, or the model
/// failed on it.
fn is_about_content(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNPROCESSABLE_ENTITY
            | StatusCode::INTERNAL_SERVER_ERROR
    )
}

fn rows(messages: &[Message], part: &[usize]) -> usize {
    let rows = part
        .iter()
        .filter_map(|&place| messages[place].rows.as_ref());
    rows.map(|rows| rows.count).sum()
}

/// Number of rows in the response.
fn predictions(answer: &SidecarResponse) -> Option<usize> {
    #[derive(Deserialize)]
    struct Predicted<'a> {
        #[serde(borrow)]
        prediction: Vec<&'a RawValue>,
    }
    serde_json::from_slice(&answer.body)
        .ok()
        .map(|predicted: Predicted<'_>| predicted.prediction.len())
}

/// The messages that were not processed.
#[derive(Default)]
struct Failed {
    places: BTreeSet<usize>,
    /// Failure of the first of them.
    first: Option<Failure>,
}

impl Failed {
    fn all(&mut self, messages: &[Message], part: &[usize], failure: Failure) {
        for &place in part {
            tracing::warn!(
                message_id = messages[place].id,
                error_type = failure.error_type(),
                "a message failed and returns to the queue: {failure}"
            );
        }
        self.places.extend(part);
        self.first.get_or_insert(failure);
    }

    /// Fails the later messages of a failed message's group in a FIFO queue: SQS would otherwise
    /// deliver them out of order.
    fn hold_back_groups(&mut self, messages: &[Message]) {
        let mut held = BTreeSet::new();
        for (place, message) in messages.iter().enumerate() {
            let Some(group) = &message.group else {
                continue;
            };
            if self.places.contains(&place) {
                held.insert(group);
            } else if held.contains(group) {
                self.places.insert(place);
            }
        }
    }
}
