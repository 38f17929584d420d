//! The `cknet` executable.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(code) = cknet::personality::run(&arguments) {
        return code;
    }
    ExitCode::from(2)
}
