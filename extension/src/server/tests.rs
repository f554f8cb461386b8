//! Requests through a connection of a whole server.

mod attachment;
mod large_bodies;
mod restore;
