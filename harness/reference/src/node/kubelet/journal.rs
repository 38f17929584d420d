//! The kubelet's own words, one line each, on standard error.

use std::fmt::Arguments;
use std::io::Write;

/// Writes one line; a closed standard error is nobody's problem.
pub fn journal(line: Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{} kubelet: {line}", jiff::Timestamp::now());
}
