//! Probes for people: `cknet connect` and `cknet resolve`, to be typed into a pod.
//!
//! The words and exit codes are those of `agnhost connect`, so that scripts written for it read the same: silence
//! is `TIMEOUT`, a reset `REFUSED`, a name that is not found `DNS: …`, all else `OTHER: …`; 0 for an answer, 1 for
//! none. Owns the words; the probing is the engine's.

use std::fmt;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use crate::dns_client::{Lookup, LookupError, Resolver};
use crate::engine::Prober;
use crate::wire::{Batch, Cell, Doubt, Expect, Observation, RecordType, Sight, Target, VantageId};

/// What `cknet connect` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct ConnectOptions {
    /// HOST:PORT; for icmp only HOST, for http HOST[:PORT][/PATH].
    pub target: Destination,
    #[arg(long, value_enum, default_value_t = Protocol::Tcp)]
    pub protocol: Protocol,
    /// How long to wait for a name, and again for an answer: 500ms, 1s, 2m.
    #[arg(long, default_value = "1s", value_parser = parse_duration)]
    pub timeout: Duration,
}

/// What `cknet resolve` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct ResolveOptions {
    /// The name; with a last dot it is complete, without one the search domains apply.
    pub name: String,
    /// Record type; without it A, then AAAA.
    #[arg(long = "type", value_parser = parse_record)]
    pub record: Option<RecordType>,
    /// How long to wait in all.
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    pub timeout: Duration,
}

/// How to knock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
    Http,
    Icmp,
}

/// A host and what belongs to it, as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    pub host: String,
    pub port: Option<u16>,
    /// From the first slash on.
    pub path: Option<String>,
}

/// The text is no destination.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not HOST:PORT; an IPv6 address with a port stands in brackets")]
pub struct ParseDestinationError(String);

impl FromStr for Destination {
    type Err = ParseDestinationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseDestinationError(text.to_owned());
        let (place, path) = match text.find('/') {
            Some(at) => (&text[..at], Some(text[at..].to_owned())),
            None => (text, None),
        };
        if place.parse::<IpAddr>().is_ok() {
            return Ok(Self { host: place.to_owned(), port: None, path });
        }
        if let Ok(address) = place.parse::<SocketAddr>() {
            return Ok(Self { host: address.ip().to_string(), port: Some(address.port()), path });
        }
        let (host, port) = match place.split_once(':') {
            Some((host, port)) => (host, Some(port.parse().map_err(|_| error())?)),
            None => (place, None),
        };
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || "[]".contains(c)) {
            return Err(error());
        }
        Ok(Self { host: host.to_owned(), port, path })
    }
}

/// How a connect ended, with what is said about it.
enum Ending {
    Allowed(String),
    Timeout,
    Refused,
    Dns(String),
    Other(String),
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed(what) => write!(f, "allowed: {what}"),
            Self::Timeout => f.write_str("TIMEOUT"),
            Self::Refused => f.write_str("REFUSED"),
            Self::Dns(what) => write!(f, "DNS: {what}"),
            Self::Other(what) => write!(f, "OTHER: {what}"),
        }
    }
}

/// The personality `cknet connect`; returns the exit code. An answer is told on `out`, all else on `err`.
pub fn connect(options: &ConnectOptions, out: &mut impl Write, err: &mut impl Write) -> io::Result<u8> {
    let ending = attempt(options);
    match ending {
        Ending::Allowed(_) => writeln!(out, "{ending}").map(|()| 0),
        _ => writeln!(err, "{ending}").map(|()| 1),
    }
}

/// The personality `cknet resolve`; returns the exit code.
pub fn resolve(options: &ResolveOptions, out: &mut impl Write, err: &mut impl Write) -> io::Result<u8> {
    let mut resolver = match Resolver::of_this_host() {
        Ok(resolver) => resolver,
        Err(error) => return writeln!(err, "DNS: {error}").map(|()| 1),
    };
    let asked = options.record.map_or_else(|| vec![RecordType::A, RecordType::Aaaa], |record| vec![record]);
    let mut failures = Vec::new();
    let mut found = false;
    for record in asked {
        match resolver.resolve(&options.name, record, options.timeout) {
            Ok(lookup) => {
                found = true;
                tell_lookup(&lookup, out)?;
            }
            Err(error) => failures.push(error),
        }
    }
    if found {
        return Ok(0);
    }
    for error in failures {
        tell_failure(&error, err)?;
    }
    Ok(1)
}

fn tell_lookup(lookup: &Lookup, out: &mut impl Write) -> io::Result<()> {
    for record in &lookup.records {
        writeln!(out, "{} {} {}", record.name, record.ttl, record.value)?;
    }
    let suffix = lookup.suffix.as_ref().map_or_else(String::new, |suffix| format!(", search suffix {suffix}"));
    writeln!(out, "  answered by {}{suffix}", lookup.server)?;
    lookup.tries.iter().try_for_each(|one| writeln!(out, "  {one}"))
}

fn tell_failure(error: &LookupError, err: &mut impl Write) -> io::Result<()> {
    writeln!(err, "DNS: {error}")?;
    match error {
        LookupError::NotFound { tries, .. } | LookupError::NoAnswer { tries, .. } => {
            tries.iter().try_for_each(|one| writeln!(err, "  {one}"))
        }
        _ => Ok(()),
    }
}

fn attempt(options: &ConnectOptions) -> Ending {
    let address = match address_of(&options.target.host, options.timeout) {
        Ok(address) => address,
        Err(error) => return Ending::Dns(error.to_string()),
    };
    let target = match target(options, address) {
        Ok(target) => target,
        Err(ending) => return ending,
    };
    let here = VantageId::new("here");
    let cells = vec![Cell { id: 0, from: here.clone(), target }];
    let batch = Batch { pass: 0, cells, quiet: options.timeout, cap: options.timeout * 2 };
    let mut prober = match Prober::new() {
        Ok(prober) => prober,
        Err(error) => return Ending::Other(format!("cannot probe: {error}")),
    };
    if let Err(error) = prober.attach(&here, "self") {
        return Ending::Other(error.to_string());
    }
    prober.probe(&batch).observations.first().map_or_else(|| Ending::Other("nothing was seen".into()), ending)
}

fn address_of(host: &str, timeout: Duration) -> Result<IpAddr, LookupError> {
    if let Ok(address) = host.parse() {
        return Ok(address);
    }
    let mut resolver = Resolver::of_this_host()?;
    let v4 = resolver.resolve(host, RecordType::A, timeout);
    let found = match v4 {
        Ok(lookup) => lookup,
        // A name with only IPv6 addresses is one that is there, without records of the first kind.
        Err(v4) => resolver.resolve(host, RecordType::Aaaa, timeout).map_err(|_| v4)?,
    };
    let name = found.name.clone();
    found.addresses().next().ok_or(LookupError::NoAddress { name })
}

fn target(options: &ConnectOptions, ip: IpAddr) -> Result<Target, Ending> {
    let given = &options.target;
    let default = (options.protocol == Protocol::Http).then_some(80);
    let address = given.port.or(default).map(|port| SocketAddr::new(ip, port));
    let needed = || address.ok_or_else(|| Ending::Other(format!("`{}` lacks a port", given.host)));
    Ok(match options.protocol {
        Protocol::Icmp => Target::Icmp { address: ip, payload: 56, whole: false },
        Protocol::Tcp => Target::Tcp { address: needed()?, expect: Expect::Echo },
        Protocol::Udp => Target::Udp { address: needed()?, payload: 0 },
        Protocol::Sctp => Target::Sctp { address: needed()?, expect: Expect::Echo },
        Protocol::Http => {
            let path = given.path.clone().unwrap_or_else(|| "/".into());
            Target::Http { address: needed()?, host: given.host.clone(), path }
        }
    })
}

fn ending(seen: &Observation) -> Ending {
    match &seen.sight {
        Sight::Answered => Ending::Allowed(answered(seen)),
        Sight::Silent => Ending::Timeout,
        Sight::Refused => Ending::Refused,
        // Port unreachable: what a Service without endpoints answers; a dialler's `ECONNREFUSED` (RFC 1122, 4.2.3.9).
        Sight::IcmpError { kind: 3, code: 3, .. } => Ending::Refused,
        Sight::IcmpError { kind, code, from } => {
            let from = from.map_or_else(|| "an unknown host".to_owned(), |ip| ip.to_string());
            Ending::Other(format!("ICMP type {kind} code {code} from {from}"))
        }
        Sight::Unreachable { errno, reason } => Ending::Other(format!("{errno}: {reason}")),
        Sight::DnsFailed { reason } => Ending::Dns(reason.clone()),
        // The handshake was all that `agnhost connect` asks for: a server that is not ours is as good.
        Sight::Inconclusive { reason: Doubt::WrongPeer | Doubt::NoAnswer | Doubt::ClosedEarly, detail } => {
            Ending::Allowed(format!("connected; the peer did not say who it is ({detail})"))
        }
        Sight::Inconclusive { detail, .. } => Ending::Other(detail.clone()),
    }
}

fn answered(seen: &Observation) -> String {
    let mut said = match (&seen.peer, &seen.seen_source) {
        (Some(peer), Some(source)) => format!("peer {peer} saw {source}"),
        _ => "an answer from a peer that does not say who it is".to_owned(),
    };
    if let Some(status) = seen.http_status {
        said += &format!(", HTTP {status}");
    }
    if let Some(rtt) = seen.rtt_us {
        said += &format!(" ({:.1} ms)", rtt as f64 / 1000.0);
    }
    if seen.retransmitted {
        said += ", after a lost first packet";
    }
    said
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match &text[digits.len()..] {
        "ms" => 0.001,
        "s" | "" => 1.0,
        "m" => 60.0,
        _ => return Err(format!("`{text}` is not a duration; write 500ms, 1s or 2m")),
    };
    let number: f64 = digits.parse().map_err(|_| format!("`{text}` is not a duration; write 500ms, 1s or 2m"))?;
    Duration::try_from_secs_f64(number * scale).map_err(|_| format!("`{text}` is not a duration that can be waited"))
}

fn parse_record(text: &str) -> Result<RecordType, String> {
    serde_json::from_value(text.to_ascii_uppercase().into())
        .map_err(|_| format!("`{text}` is not a record type; there are A, AAAA, CNAME, PTR, SRV and TXT"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("backend:8080", "backend", Some(8080), None)]
    #[case("10.0.0.1", "10.0.0.1", None, None)]
    #[case("fd00::1", "fd00::1", None, None)]
    #[case("[fd00::1]:80", "fd00::1", Some(80), None)]
    #[case("web.example/a/b", "web.example", None, Some("/a/b"))]
    fn destinations(#[case] text: &str, #[case] host: &str, #[case] port: Option<u16>, #[case] path: Option<&str>) {
        let expected = Destination { host: host.into(), port, path: path.map(Into::into) };
        assert_eq!(text.parse::<Destination>().unwrap(), expected);
    }

    #[rstest]
    fn no_destinations(#[values("", ":80", "host:http", "[fd00::1", "a b:1")] text: &str) {
        assert!(text.parse::<Destination>().is_err());
    }

    #[test]
    fn durations_and_records_are_read() {
        assert_eq!(parse_duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(parse_duration("1.5s").unwrap(), Duration::from_millis(1500));
        assert!(parse_duration("soon").is_err() && parse_duration("-1s").is_err());
        assert_eq!(parse_record("aaaa").unwrap(), RecordType::Aaaa);
        assert!(parse_record("MX").is_err());
    }
}
