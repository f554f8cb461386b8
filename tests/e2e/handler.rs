//! Lambda events, as the staged handler receives them, and traces of their invocations.

mod events;
mod otlp;
mod sqs;
mod xray;
