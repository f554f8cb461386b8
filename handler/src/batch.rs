//! The answer to a batch of messages: which of them are to come again.
//!
//! Messages with rows for the same model are one request, and so one run of the model. Where that is
//! refused because of what it holds, it is sent again in halves, until those that are at fault stand
//! alone: what the sidecar says of a message alone is what counts. Where the model does not answer
//! row by row, so that nobody can tell whose answer is whose, each message is sent alone as well.
//!
//! A message is answered, or it fails and SQS brings it again; none is lost between the two. When
//! none at all was answered the invocation itself fails, which does the same, is counted by Lambda
//! as an error, makes it poll more slowly, and needs no `ReportBatchItemFailures`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::event::{Batch, Call, Message};
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::reply::{self, BatchReply, Reply};
use crate::sidecar::{Answer, Sidecar};

/// Has the sidecar answer the messages, within the invocation's time.
pub async fn answer(
    sidecar: &Sidecar,
    batch: Batch,
    invocation: &Invocation,
) -> Result<Reply, Failure> {
    let messages = batch.messages;
    let mut parts = parts(&messages);
    let mut failed = Failed::default();
    let mut calls = 0_usize;
    // The first part is the last one here, so that messages are answered about in their order.
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
        match judge(sidecar.send(call, invocation).await, &messages, &part) {
            Verdict::Answered => {}
            Verdict::Halve => {
                let (first, second) = part.split_at(part.len() / 2);
                parts.extend([second.to_vec(), first.to_vec()]);
            }
            Verdict::Alone => parts.extend(part.iter().rev().map(|&one| vec![one])),
            Verdict::Failed(failure) => failed.all(&messages, &part, failure),
            Verdict::Over(failure) => {
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
        "answered a batch of messages"
    );
    match failed.first {
        Some(failure) if failed.places.len() == messages.len() => Err(failure),
        _ => {
            let ids = failed
                .places
                .iter()
                .map(|&place| messages[place].id.clone());
            Ok(Reply::Batch(BatchReply::failures(ids)))
        }
    }
}

/// Places of messages that are sent together.
type Part = Vec<usize>;

/// Together what has rows of one form for one model, in the order of the first message of each.
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

/// The call of one message as it stands, or of several as one.
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

enum Verdict {
    /// All of the part were answered.
    Answered,
    /// Something in it is at fault.
    Halve,
    /// Its answers cannot be told apart.
    Alone,
    /// All of the part are to come again.
    Failed(Failure),
    /// There is no sidecar, or no time: this part and whatever is left are to come again.
    Over(Failure),
}

fn judge(answer: Result<Answer, Failure>, messages: &[Message], part: &[usize]) -> Verdict {
    let is_joint = part.len() > 1;
    let answer = match answer {
        Ok(answer) => answer,
        Err(Failure::TooLarge) if is_joint => return Verdict::Halve,
        Err(failure @ (Failure::TooLarge | Failure::BadRequest(_))) => {
            return Verdict::Failed(failure);
        }
        Err(failure) => return Verdict::Over(failure),
    };
    match reply::refusal(&answer) {
        Some(_) if is_joint && is_about_content(answer.status) => Verdict::Halve,
        Some(refusal) => Verdict::Failed(refusal),
        None if is_joint && predictions(&answer) != Some(rows(messages, part)) => Verdict::Alone,
        None => {
            // SQS takes no answer: here is the only place where one can be seen.
            tracing::debug!(
                messages = ?part.iter().map(|&place| messages[place].id.as_str()).collect::<Vec<_>>(),
                answer = %String::from_utf8_lossy(&answer.body),
                "the model answered"
            );
            Verdict::Answered
        }
    }
}

/// Whether another request in this one's place could fare better: it does not fit, it is too large, or
/// the model failed on it.
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

/// How many rows have an answer.
fn predictions(answer: &Answer) -> Option<usize> {
    #[derive(Deserialize)]
    struct Predicted<'a> {
        #[serde(borrow)]
        prediction: Vec<&'a RawValue>,
    }
    serde_json::from_slice(&answer.body)
        .ok()
        .map(|predicted: Predicted<'_>| predicted.prediction.len())
}

/// The messages that were not answered.
#[derive(Default)]
struct Failed {
    places: BTreeSet<usize>,
    /// What the first of them failed with.
    first: Option<Failure>,
}

impl Failed {
    fn all(&mut self, messages: &[Message], part: &[usize], failure: Failure) {
        for &place in part {
            tracing::warn!(
                message_id = messages[place].id,
                error_type = failure.error_type(),
                "a message has no answer, and comes again: {failure}"
            );
        }
        self.places.extend(part);
        self.first.get_or_insert(failure);
    }

    /// Of a FIFO queue, what stands behind a failed message in its group comes again with it: SQS
    /// would else bring them out of order.
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
