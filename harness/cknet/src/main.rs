//! The `cknet` executable: a personality where the first argument names one, the command line otherwise.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words = std::env::args();
    let name = words.next().unwrap_or_default();
    let arguments: Vec<String> = words.collect();
    match cknet::personality::run(&name, &arguments) {
        Some(code) => code,
        None => cknet::cli::main(),
    }
}
