//! `nslookup NAME [SERVER]`: which addresses a name has, and who says so.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use cknet_probe::dns_client::resolv_conf::ResolvConf;
use cknet_probe::dns_client::{LookupError, Resolver};
use cknet_probe::wire::RecordType;

use super::{fail, options_of};
use crate::options::{Known, long_flag};
use crate::{names, say};

const OPTIONS: &[Known] = &[long_flag("debug")];
const PATIENCE: Duration = Duration::from_secs(10);

pub fn run(arguments: &[String]) -> u8 {
    // `-type=A` and `-timeout=2` have one dash, which is no cluster of letters.
    let (single, rest): (Vec<String>, Vec<String>) =
        arguments.iter().cloned().partition(|word| word.starts_with('-') && word.contains('='));
    let outcome = options_of("nslookup", &rest, OPTIONS).and_then(|given| match given.operands.as_slice() {
        [name] => look_up(name, None, &single),
        [name, server] => look_up(name, Some(server), &single),
        _ => Err(fail("nslookup", "usage: nslookup [-type=TYPE] NAME [SERVER]")),
    });
    outcome.map_or_else(|code| code, |()| 0)
}

fn look_up(name: &str, server: Option<&str>, options: &[String]) -> Result<(), u8> {
    let mut conf = ResolvConf::parse(&fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
    if let Some(server) = server {
        let found = names::addresses(server).ok().and_then(|found| found.first().copied());
        let address = found.ok_or_else(|| fail("nslookup", format!("can't resolve '{server}'")))?;
        conf.servers = vec![SocketAddr::new(address, 53)];
    }
    let kind = options.iter().find_map(|option| option.split_once('=').filter(|(name, _)| name.ends_with("type")));
    let record = match kind.map(|(_, kind)| kind.to_ascii_uppercase()) {
        None => RecordType::A,
        Some(kind) => serde_json::from_value(kind.clone().into())
            .map_err(|_| fail("nslookup", format!("invalid query type \"{kind}\"")))?,
    };
    let asked = conf.servers.first().copied();
    let resolver = Resolver::new(conf, PathBuf::from("/etc/resolv.conf"));
    let mut resolver = resolver.map_err(|error| fail("nslookup", error))?;
    let found = resolver.resolve(name, record, PATIENCE);
    if let (Some(server), Ok(_) | Err(LookupError::NotFound { .. })) = (asked, &found) {
        say::line(format_args!("Server:\t\t{}\nAddress:\t{server}\n", server.ip()));
    }
    match found {
        Ok(found) => {
            for record in found.records {
                match record.address {
                    Some(address) => say::line(format_args!("Name:\t{}\nAddress: {address}", record.name)),
                    None => say::line(format_args!("{}\t{}", record.name, record.value)),
                }
            }
            say::line("");
            Ok(())
        }
        Err(LookupError::NotFound { .. }) => {
            say::line(format_args!("** server can't find {name}: NXDOMAIN\n"));
            Err(1)
        }
        Err(_) => {
            say::line(";; connection timed out; no servers could be reached\n");
            Err(1)
        }
    }
}
