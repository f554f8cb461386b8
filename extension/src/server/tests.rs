//! Requests through a connection of a whole server.

mod large_bodies;
