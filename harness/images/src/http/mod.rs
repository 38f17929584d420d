//! As much of HTTP/1.1 as small servers and clients need: no TLS, no compression, no caching.

pub mod client;
mod message;
pub mod server;
pub mod url;

pub(crate) use message::head;
pub use message::{Headers, Reply, Request};
