//! The local HTTP API, and access to it.

mod auth;
mod compression;
mod http_api;
mod invalid_requests;
mod local_access;
mod model_repository;
mod openapi;
mod tensorflow_serving;
