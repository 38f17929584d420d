//! The hidden command line by which scenario steps work a node's firewall: `close`, `reject`, `open`, `only`, `zone`,
//! `clear`, `list`.
//!
//! Data goes to stdout as JSON, complaints to stderr; the exit code is 0, 1 for the kernel's refusal, 2 for a command
//! line that cannot be read.

use std::io::{self, Write};
use std::process::ExitCode;

use ipnet::IpNet;

use super::closure::{Action, Closure, Firewall, Nic, Place, Ports, Scope, StillClosed, Way};
use super::guard::{self, Guard, Manner};
use super::rules::{FirewallError, apply, current, read};
use super::text::ParseError;

const USAGE: &str =
    "usage: node-firewall close|reject|open PORTS/PROTOCOL [--direction in|out|both] [--from CIDR] [--nic NAME] [--place early|forward]
       node-firewall only [PORTS/PROTOCOL ...] --at NAME [--at NAME ...]
       node-firewall zone [PORTS/PROTOCOL ...] [--trust CIDR ...]
       node-firewall clear|list";

#[derive(Debug, PartialEq, Eq)]
enum Command {
    Close(Vec<Closure>),
    Open { ports: Ports, ways: Vec<Way>, scope: Scope },
    Guard(Guard),
    Clear,
    List,
}

#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error("{0}\n{USAGE}")]
    Usage(String),
    #[error("{0}\n{USAGE}")]
    Parse(#[from] ParseError),
    #[error(transparent)]
    Firewall(#[from] FirewallError),
    #[error(transparent)]
    StillClosed(#[from] StillClosed),
    #[error(transparent)]
    Narrow(#[from] guard::TooNarrow),
    #[error("cannot write the list: {0}")]
    Write(#[from] io::Error),
}

/// Does what `args` (without the program's name) ask for, in the calling thread's network namespace.
pub fn main(args: impl IntoIterator<Item = String>) -> ExitCode {
    let args: Vec<String> = args.into_iter().collect();
    match parse(&args).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nowhere to complain about a closed stderr.
            let _ = writeln!(io::stderr(), "error: {error}");
            let usage = matches!(error, CommandError::Usage(_) | CommandError::Parse(_));
            ExitCode::from(if usage { 2 } else { 1 })
        }
    }
}

fn parse(args: &[String]) -> Result<Command, CommandError> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["clear"] => Ok(Command::Clear),
        ["list"] => Ok(Command::List),
        [verb @ ("close" | "reject" | "open"), ports, options @ ..] => {
            let ports = ports.parse()?;
            let Narrowed { ways, scope, place } = parse_options(options)?;
            if place != Place::Filter && (ways != [Way::In] || *verb == "open") {
                return Err(CommandError::Usage("`--place` needs `--direction in` and something to close".into()));
            }
            let close = |action| {
                let closure = |way| Closure { ports, way, place, scope: scope.clone(), action };
                Command::Close(ways.iter().copied().map(closure).collect())
            };
            Ok(match *verb {
                "close" => close(Action::Drop),
                "reject" => close(Action::Reject),
                _ => Command::Open { ports, ways, scope },
            })
        }
        [verb @ ("only" | "zone"), rest @ ..] => {
            let (opened, rest) = rest.split_at(rest.iter().take_while(|word| !word.starts_with("--")).count());
            let opened = opened.iter().map(|ports| ports.parse()).collect::<Result<_, _>>()?;
            let manner = match *verb {
                "only" => Manner::Wall { at: values(rest, "--at", Nic::new)? },
                _ => Manner::Zone { trusted: values(rest, "--trust", block)? },
            };
            Ok(Command::Guard(Guard { manner, opened }))
        }
        _ => Err(CommandError::Usage(format!("cannot read `{}`", args.join(" ")))),
    }
}

/// The values of an option that may be given several times, and is the only one.
fn values<T>(words: &[&str], name: &str, read: fn(&str) -> Result<T, ParseError>) -> Result<Vec<T>, CommandError> {
    let pairs = words.chunks(2).map(|pair| match pair {
        [option, value] if *option == name => Ok(read(value)?),
        _ => Err(CommandError::Usage(format!("cannot read `{}`", pair.join(" ")))),
    });
    pairs.collect()
}

/// What narrows a closure.
struct Narrowed {
    ways: Vec<Way>,
    scope: Scope,
    place: Place,
}

/// Both directions and everybody, unless said otherwise.
fn parse_options(options: &[&str]) -> Result<Narrowed, CommandError> {
    let (mut ways, mut scope, mut place) = (vec![Way::In, Way::Out], Scope::default(), Place::default());
    let mut rest = options;
    while let [option, tail @ ..] = rest {
        let (name, value, tail) = match (option.split_once('='), tail) {
            (Some((name, value)), tail) => (name, value, tail),
            (None, [value, tail @ ..]) => (*option, *value, tail),
            (None, []) => return Err(CommandError::Usage(format!("`{option}` lacks a value"))),
        };
        match (name, value) {
            ("--direction", "in") => ways = vec![Way::In],
            ("--direction", "out") => ways = vec![Way::Out],
            ("--direction", "both") => ways = vec![Way::In, Way::Out],
            ("--from", cidr) => scope.far_end = Some(block(cidr)?),
            ("--nic", name) => scope.nic = Some(Nic::new(name)?),
            ("--place", "early") => place = Place::Early,
            ("--place", "forward") => place = Place::Forward,
            _ => return Err(CommandError::Usage(format!("cannot read `{name} {value}`"))),
        }
        rest = tail;
    }
    Ok(Narrowed { ways, scope, place })
}

/// A block, or an address that stands for itself.
fn block(text: &str) -> Result<IpNet, ParseError> {
    let address = || text.parse::<std::net::IpAddr>().ok().map(IpNet::from);
    let block = text.parse().ok().or_else(address).map(|block: IpNet| block.trunc());
    block.ok_or_else(|| ParseError::new(text, "an address block, such as `10.0.0.0/8`"))
}

fn run(command: Command) -> Result<(), CommandError> {
    match command {
        Command::List => return list(),
        Command::Clear => {
            guard::apply(None)?;
            guard::clear_firewalld()?;
            apply(&Firewall::default())?;
        }
        Command::Guard(guard) => guard::apply(Some(&guard))?,
        Command::Close(closures) => {
            let mut firewall = current()?;
            closures.into_iter().for_each(|closure| firewall.close(closure));
            apply(&firewall)?;
        }
        Command::Open { ports, ways, scope } => {
            if let Some(mut guard) = guard::read()? {
                guard.open(ports, &ways, &scope)?;
                guard::apply(Some(&guard))?;
            }
            let mut firewall = current()?;
            for way in ways {
                firewall.open(ports, way, &scope)?;
            }
            apply(&firewall)?;
        }
    }
    Ok(())
}

fn list() -> Result<(), CommandError> {
    let counts = read()?;
    let mut stdout = io::stdout().lock();
    serde_json::to_writer_pretty(&mut stdout, &counts).map_err(io::Error::from)?;
    Ok(writeln!(stdout)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rstest::rstest;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(Into::into).collect()
    }

    #[rstest]
    #[case("close 4789/udp", &["closed 4789/udp in", "closed 4789/udp out"])]
    #[case("close 4789/udp --direction in --from 10.0.0.7/8", &["closed 4789/udp in from 10.0.0.0/8"])]
    #[case("close 4789/udp --direction=out --from=10.0.0.7", &["closed 4789/udp out to 10.0.0.7/32"])]
    #[case("reject 80/tcp --nic eth1 --direction in", &["rejected 80/tcp in through eth1"])]
    #[case("close 80/tcp --nic=eth1 --from 10.0.0.0/8", &["closed 80/tcp in from 10.0.0.0/8 through eth1", "closed 80/tcp out to 10.0.0.0/8 through eth1"])]
    fn closing(#[case] line: &str, #[case] closures: &[&str]) {
        let closures = closures.iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(parse(&words(line)).unwrap(), Command::Close(closures));
    }

    #[rstest]
    #[case("", "cannot read ``")]
    #[case("close", "cannot read `close`")]
    #[case("close 4789", "`4789` is not ports and protocol")]
    #[case("close 4789/udp --direction sideways", "cannot read `--direction sideways`")]
    #[case("close 4789/udp --from", "`--from` lacks a value")]
    #[case("open 4789/udp --from here", "`here` is not an address block")]
    #[case("close 4789/udp --nic eth*", "`eth*` is not the name of a network device")]
    #[case("close 4789/udp --place early", "`--place` needs `--direction in` and something to close")]
    #[case("open 4789/udp --direction in --place forward", "`--place` needs")]
    #[case("only 4789 --at eth0", "`4789` is not ports and protocol")]
    #[case("only 4789/udp --trust 10.0.0.0/8", "cannot read `--trust 10.0.0.0/8`")]
    #[case("zone 4789/udp --trust", "cannot read `--trust`")]
    fn complaints(#[case] line: &str, #[case] complaint: &str) {
        let error = parse(&words(line)).unwrap_err().to_string();
        assert!(error.starts_with(complaint) && error.ends_with(USAGE), "{error}");
    }
}
