//! The hidden personalities of the executable: what runs inside fabrics, nodes and pods.
//!
//! They are chosen by the first argument before anything else happens, because some must run while the process has
//! one thread only.

use std::process::ExitCode;

use crate::provider::netns::fabric;

/// Runs the personality that the arguments (without the program's name) name, if they name one.
pub fn run(arguments: &[String]) -> Option<ExitCode> {
    let (name, rest) = arguments.split_first()?;
    match name.as_str() {
        "fabric" => Some(fabric::main(rest)),
        "logged" => Some(logged(rest)),
        _ => None,
    }
}

/// `cknet logged FILE PROGRAM [ARGUMENT ...]`: becomes PROGRAM with both outputs appended to FILE.
fn logged(arguments: &[String]) -> ExitCode {
    use std::os::unix::process::CommandExt;
    let [log, program, arguments @ ..] = arguments else { return ExitCode::from(2) };
    let open = || std::fs::File::options().create(true).append(true).open(log);
    let (Ok(stdout), Ok(stderr)) = (open(), open()) else { return ExitCode::FAILURE };
    let error = std::process::Command::new(program).args(arguments).stdout(stdout).stderr(stderr).exec();
    if let Ok(mut log) = open() {
        use std::io::Write;
        let _ = writeln!(log, "cannot start `{program}`: {error}");
    }
    ExitCode::from(127)
}
