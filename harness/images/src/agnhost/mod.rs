//! agnhost, the program of Kubernetes' own end-to-end tests, as far as network suites and tutorials use it.

mod commands;
mod connect;
mod dial;
mod netexec;
mod porter;
mod resolver;
mod serve_hostname;
mod small;

use crate::options::{self, Given, Known};
use crate::say;

/// Takes its arguments, returns an exit code.
type Subcommand = fn(&[String]) -> u8;

/// What this agnhost can be told.
const SUBCOMMANDS: &[(&str, Subcommand)] = &[
    ("connect", connect::run),
    ("dns-server-list", resolver::servers),
    ("dns-suffix", resolver::suffixes),
    ("entrypoint-tester", small::entrypoint_tester),
    ("etc-hosts", resolver::hosts),
    ("liveness", small::liveness),
    ("netexec", netexec::run),
    ("pause", small::pause),
    ("porter", porter::run),
    ("serve-hostname", serve_hostname::run),
    ("test-webserver", small::test_webserver),
];

/// Runs agnhost; returns its exit code.
pub fn run(arguments: &[String]) -> u8 {
    let Some((name, rest)) = arguments.split_first() else {
        say::line(usage());
        return 0;
    };
    match SUBCOMMANDS.iter().find(|(known, _)| known == name) {
        Some((_, subcommand)) => subcommand(rest),
        None if matches!(name.as_str(), "help" | "--help" | "-h") => {
            say::line(usage());
            0
        }
        None if name == "--version" => {
            say::line("agnhost version 2.53 (spoken by cknet)");
            0
        }
        None => {
            say::error(format_args!("Error: unknown command \"{name}\" for \"agnhost\"\n{}", usage()));
            1
        }
    }
}

fn usage() -> String {
    let names: Vec<&str> = SUBCOMMANDS.iter().map(|(name, _)| *name).collect();
    format!("agnhost as cknet speaks it: {}", names.join(", "))
}

/// Reads the options of a subcommand; the error code when they are wrong.
fn options_of(arguments: &[String], known: &[Known], operands: usize) -> Result<Given, u8> {
    let given = options::read(arguments, known).map_err(|problem| {
        say::error(format_args!("Error: {problem}"));
        1
    })?;
    if given.operands.len() != operands {
        say::error(format_args!("Error: accepts {operands} arg(s), received {}", given.operands.len()));
        return Err(1);
    }
    Ok(given)
}

/// A number among the options; the error code when it is none.
fn number<N: std::str::FromStr>(given: &Given, name: &str, unless_given: N) -> Result<N, u8> {
    given.number(name, unless_given).map_err(|problem| {
        say::error(format_args!("Error: {problem}"));
        1
    })
}

/// What the server says that it is called.
fn host_name() -> String {
    nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
