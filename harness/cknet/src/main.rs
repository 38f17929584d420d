//! The `cknet` executable: a personality where the first argument names one, the command line otherwise.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Bytes that are not text name no personality; the command line reads them anew and says what is wrong with them.
    let mut words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let name = words.next().unwrap_or_default();
    let arguments: Vec<String> = words.collect();
    match cknet::personality::run(&name, &arguments) {
        Some(code) => code,
        None => cknet::cli::main(),
    }
}
