//! The hidden personalities of the executable: what runs inside fabrics, nodes and pods.
//!
//! They are chosen by the name of the program or by the first argument before anything else happens, because some must
//! run while the process has one thread only, and because inside a pod nobody needs the runner's command line.

use std::io::{self, Write};
use std::process::ExitCode;

use cknet_probe::{agent, connect, facts, firewall, serve, tap};
use cknet_reference::{control_plane, dns, node};
use clap::{Args, FromArgMatches};

use crate::provider::netns::fabric;

/// Runs the personality that the program's name or else its arguments name, if they name one.
pub fn run(program: &str, arguments: &[String]) -> Option<ExitCode> {
    if let Some(code) = cknet_images::run(program, arguments) {
        return Some(code);
    }
    let (name, rest) = arguments.split_first()?;
    Some(match (name.as_str(), rest.first().map(String::as_str)) {
        ("fabric", _) => fabric::main(rest),
        ("logged", _) => logged(rest),
        ("control-plane", _) => control_plane::main(rest),
        ("node", _) => node::main(rest),
        ("node-clean", _) => node::clean::main(),
        ("calico-node", _) => node::calico::main(rest),
        ("flanneld", _) => node::flannel::main(rest),
        ("dns", _) => dns::main(rest.iter().cloned()),
        ("pause", _) => pause(),
        // Programs of images, for commands where no image is.
        ("curl" | "wget" | "forward-proxy" | "registry", _) => return cknet_images::run(name, rest),
        ("node-firewall", _) => firewall::main(rest.iter().cloned()),
        ("drops", _) => told(firewall::drops::run(&mut io::stdout())),
        ("ruleset", _) => told(firewall::listing::run(&mut io::stdout())),
        ("node-file", _) => crate::provider::file::main(rest),
        ("node-interfaces", _) => crate::provider::machine::interfaces::main(rest),
        ("relay", _) => crate::provider::machine::relay::main(rest),
        ("node-link", _) => crate::provider::link::main(rest),
        ("node-route", _) => crate::provider::route::route(rest),
        ("node-fdb", _) => crate::provider::route::fdb(rest),
        ("probe", Some("agent")) => told(agent::on_standard_streams()),
        ("probe", Some("tap")) => told(tap::on_standard_streams()),
        ("probe", Some("serve")) => {
            with::<serve::Options>("serve", &rest[1..], |options| told(serve::run(&options, &mut io::stdout())))
        }
        ("connect", _) => {
            with("connect", rest, |options| code(connect::connect(&options, &mut io::stdout(), &mut io::stderr())))
        }
        ("resolve", _) => {
            with("resolve", rest, |options| code(connect::resolve(&options, &mut io::stdout(), &mut io::stderr())))
        }
        ("facts", _) => with::<facts::Options>("facts", rest, |options| told(facts::run(&options, &mut io::stdout()))),
        _ => return None,
    })
}

/// Reads the options of a personality and runs it; wrong ones end with exit code 2.
fn with<O: Args + FromArgMatches>(
    name: &'static str,
    arguments: &[String],
    run: impl FnOnce(O) -> ExitCode,
) -> ExitCode {
    let command = O::augment_args(clap::Command::new(name)).no_binary_name(true);
    let options = command.try_get_matches_from(arguments).and_then(|matches| O::from_arg_matches(&matches));
    match options {
        Ok(options) => run(options),
        Err(error) => {
            // Without standard streams there is nobody to tell.
            let _ = error.print();
            ExitCode::from(if error.use_stderr() { 2 } else { 0 })
        }
    }
}

fn told<E: std::fmt::Display>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn code(result: io::Result<u8>) -> ExitCode {
    result.map_or(ExitCode::FAILURE, ExitCode::from)
}

/// `cknet pause`: does nothing until it is told to end, like the image of that name.
fn pause() -> ExitCode {
    use nix::sys::signal::{SigSet, Signal};
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGTERM);
    ends.add(Signal::SIGINT);
    told(ends.thread_block().and_then(|()| ends.wait()).map(|_| ()))
}

/// `cknet logged FILE PROGRAM [ARGUMENT ...]`: becomes PROGRAM with both outputs appended to FILE.
fn logged(arguments: &[String]) -> ExitCode {
    use std::os::unix::process::CommandExt;
    let [log, program, arguments @ ..] = arguments else { return ExitCode::from(2) };
    let open = || std::fs::File::options().create(true).append(true).open(log);
    let (Ok(stdout), Ok(stderr)) = (open(), open()) else { return ExitCode::FAILURE };
    let error = std::process::Command::new(program).args(arguments).stdout(stdout).stderr(stderr).exec();
    if let Ok(mut log) = open() {
        let _ = writeln!(log, "cannot start `{program}`: {error}");
    }
    ExitCode::from(127)
}
