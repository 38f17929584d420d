//! The personalities of this crate behind one small command line, for tests and for trying them out.

use std::io::{self, Write};
use std::process::ExitCode;

use cknet_probe::{agent, connect, facts, serve};
use clap::{Parser, Subcommand};

#[derive(Parser)]
enum Command {
    /// Probe on request, over frames on standard input and output.
    Agent,
    /// Answer probes.
    Serve(serve::Options),
    Connect(connect::ConnectOptions),
    Resolve(connect::ResolveOptions),
    Facts(facts::Options),
    #[command(subcommand)]
    Probe(Probe),
}

#[derive(Subcommand)]
enum Probe {
    Agent,
    Serve(serve::Options),
}

fn main() -> ExitCode {
    let mut out = io::stdout();
    let mut err = io::stderr();
    let done: Result<u8, Box<dyn std::error::Error>> = match Command::parse() {
        Command::Agent | Command::Probe(Probe::Agent) => agent::on_standard_streams().map(|()| 0).map_err(Into::into),
        Command::Serve(options) | Command::Probe(Probe::Serve(options)) => {
            serve::run(&options, &mut out).map(|()| 0).map_err(Into::into)
        }
        Command::Connect(options) => connect::connect(&options, &mut out, &mut err).map_err(Into::into),
        Command::Resolve(options) => connect::resolve(&options, &mut out, &mut err).map_err(Into::into),
        Command::Facts(options) => facts::run(&options, &mut out).map(|()| 0).map_err(Into::into),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let _ = writeln!(err, "error: {error}");
            ExitCode::from(2)
        }
    }
}
