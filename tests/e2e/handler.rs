//! Lambda events, as the staged handler receives them.

mod events;
mod sqs;
