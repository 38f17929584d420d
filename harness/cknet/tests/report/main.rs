//! Reports as their readers get them: a small recorded run goes in, files and text come out.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod hostile;
mod junit;
mod lines;
mod rules;
mod schemas;
mod stream;
mod terminal;
