//! `agnhost dns-suffix`, `dns-server-list`, `etc-hosts`: what the pod was given to resolve names with.

use std::fs;

use cknet_probe::dns_client::resolv_conf::ResolvConf;

use crate::say;

pub fn suffixes(_: &[String]) -> u8 {
    told(|conf| conf.search.join(","))
}

pub fn servers(_: &[String]) -> u8 {
    told(|conf| conf.servers.iter().map(|server| server.ip().to_string()).collect::<Vec<_>>().join(","))
}

pub fn hosts(_: &[String]) -> u8 {
    file("/etc/hosts").map_or_else(
        |code| code,
        |text| {
            say::text(text);
            0
        },
    )
}

fn told(what: impl FnOnce(&ResolvConf) -> String) -> u8 {
    file("/etc/resolv.conf").map_or_else(
        |code| code,
        |text| {
            say::line(what(&ResolvConf::parse(&text)));
            0
        },
    )
}

fn file(path: &str) -> Result<String, u8> {
    fs::read_to_string(path).map_err(|error| {
        say::error(format_args!("open {path}: {}", crate::errors::in_c_words(&error).to_lowercase()));
        1
    })
}
