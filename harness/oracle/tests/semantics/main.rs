//! The semantics of NetworkPolicy v1 and Services, point by point. A name `pNN_` is the number of
//! the point in the list of semantics that the suite covers.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod advice;
mod combination;
mod definition;
mod hosts;
mod laws;
mod peers;
mod ports;
mod recorded;
mod selection;
mod sentences;
mod services;
mod speed;
mod wire;
mod world;
