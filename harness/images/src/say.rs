//! What programs say. Their output is their purpose, so a stream that nobody reads any more is no error.

use std::fmt::Display;
use std::io::{self, Write};

/// A line on standard output, at once.
pub fn line(text: impl Display) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Text on standard output, at once.
pub fn text(text: impl Display) {
    let mut out = io::stdout().lock();
    let _ = write!(out, "{text}").and_then(|()| out.flush());
}

/// A line on standard error.
pub fn error(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}
