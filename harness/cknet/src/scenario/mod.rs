//! Owns scenario files: finding them, reading them, telling everything that is wrong with them at
//! once, and the typed [`Scenario`] that the rest of cknet works with.
//! Must not know how a scenario is planned and run; no tokio, no cluster, no clock.
//!
//! ```text
//! locate -> load -> check
//! files    ScenarioFile  Scenario
//! ```
//! [`read_suite`] does all three and tells the problems of all files together. A [`Scenario`] is
//! plain data: each name in it exists, each reference that could be resolved is resolved, each
//! interface has its address, and steps and expectations know their lines. What only a run knows
//! is a [`Late`] value, a [`Text`], an [`model::Object`] or a [`Json`], which are completed with a
//! [`Lookup`] of [`LateFact`]s.

mod check;
mod cloud_init;
mod declared;
mod document;
mod fixtures;
mod json;
mod late;
mod load;
mod locate;
pub mod model;
mod nearest;
mod outline;
mod premises;
mod problem;
mod profile;
mod read;
mod reference;
mod schema;
mod source;
mod tables;
mod tree;

pub use check::check;
pub use document::{Document, Section};
pub use fixtures::{Code, Fixtures, Manifests};
pub use json::Json;
pub use late::{Late, LateFact, Lookup, Piece, ResolveError, Text};
pub use load::{ScenarioFile, load, load_bytes, read_suite};
pub use locate::{Filter, Found, LocateError, Roots, locate};
pub use model::Scenario;
pub use outline::CodeBlock;
pub use premises::{Premises, PremisesNode};
pub use problem::{FileProblems, Problem, Problems};
pub use profile::Profile;
pub use schema::schema;
pub use source::{Position, Source, Span};
