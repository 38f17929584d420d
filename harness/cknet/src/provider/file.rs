//! The hidden command line `cknet node-file remove PATH`, by which scenario steps take a file away from a node; one that
//! is not there is no failure.

use std::io::{self, Write};
use std::process::ExitCode;

pub fn main(arguments: &[String]) -> ExitCode {
    let [verb, path] = arguments else { return complain(2, "usage: node-file remove PATH") };
    if verb != "remove" {
        return complain(2, &format!("`{verb}` is not `remove`"));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            complain(1, &format!("cannot remove `{path}`: {error}"))
        }
        _ => ExitCode::SUCCESS,
    }
}

fn complain(code: u8, problem: &str) -> ExitCode {
    // Nowhere to complain about a closed standard error.
    let _ = writeln!(io::stderr(), "error: {problem}");
    ExitCode::from(code)
}
