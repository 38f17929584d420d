//! Recipes of real distributions on nodes that only take down what is asked of them: every command with its
//! environment, every file with its mode, in order, as snapshots; and what becomes of nodes that say no.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod failures;
mod recorder;
mod transcripts;
