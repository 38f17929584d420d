//! The networking commands of busybox, in its words and with its exit codes; all else inside such a container is the
//! machine's own.

pub mod httpd;
pub mod nc;
pub mod nslookup;
pub mod ping;
pub mod wget;

use std::process::ExitCode;

use crate::options::{self, Given, Known};
use crate::{entrypoint, say};

/// `busybox COMMAND ...`: one of the commands here, else one of the machine.
pub fn run(arguments: &[String]) -> ExitCode {
    let Some((name, rest)) = arguments.split_first() else {
        say::line("BusyBox as cknet speaks it: httpd, nc, nslookup, ping, wget, and the programs of this machine");
        return ExitCode::SUCCESS;
    };
    match (name.as_str(), crate::run(name, rest)) {
        (_, Some(code)) => code,
        ("sh", None) => ExitCode::from(entrypoint::shell(rest)),
        (_, None) => ExitCode::from(entrypoint::run(&[vec![name.clone()], arguments.to_vec()].concat())),
    }
}

/// Reads the options of `program`; the exit code when they are wrong.
fn options_of(program: &str, arguments: &[String], known: &[Known]) -> Result<Given, u8> {
    options::read(arguments, known).map_err(|problem| fail(program, problem))
}

/// Says what is wrong; the exit code.
fn fail(program: &str, what: impl std::fmt::Display) -> u8 {
    say::error(format_args!("{program}: {what}"));
    1
}
