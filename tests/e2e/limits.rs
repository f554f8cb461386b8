//! Limits on requests: size, memory, time, queue and concurrency.

mod function_timeout;
mod memory_trim;
mod queue;
mod request_memory;
mod requests;
mod row_chunking;
