//! The `cknet` executable: a personality where the first argument names one, the command line otherwise.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match cknet::personality::run(&arguments) {
        Some(code) => code,
        None => cknet::cli::main(),
    }
}
