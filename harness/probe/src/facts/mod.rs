//! Facts about one network namespace, as JSON: what the kernel says is there, without a judgement.
//!
//! The types are what the runner reads back. Links, addresses, routes, rules, neighbours and forwarding entries
//! come over rtnetlink, open ports from `/proc/net`, files from the disk.

mod collect;
mod files;
mod links;
mod routes;
mod rules;
mod sockets;

use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use collect::{FactsError, collect};
pub use files::FileFact;
pub use links::{Link, LinkCounters, Vxlan};
pub use routes::{Fdb, Neighbour, NextHop, Route};
pub use rules::PolicyRule;
pub use sockets::Listening;

/// The kinds of facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Kind {
    All,
    Links,
    Addresses,
    Routes,
    /// Which table of routes is asked for which packets.
    Rules,
    Neighbours,
    Fdb,
    Listening,
    Files,
}

/// What `cknet facts` is told.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Options {
    /// Which facts; without any, all.
    #[arg(value_enum)]
    pub kinds: Vec<Kind>,
    /// All facts.
    #[arg(long)]
    pub all: bool,
    /// Another network namespace: a path, or `sandbox:ID`.
    #[arg(long)]
    pub netns: Option<String>,
    /// Files and directories to tell about; a directory stands for the files right in it.
    #[arg(long = "file")]
    pub files: Vec<PathBuf>,
}

impl Options {
    /// Whether this kind is asked for.
    pub fn wants(&self, kind: Kind) -> bool {
        self.all || self.kinds.is_empty() || self.kinds.contains(&kind) || self.kinds.contains(&Kind::All)
    }
}

/// One address of a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    pub link: String,
    /// The address, with the prefix length of its network.
    pub address: IpNet,
    /// The other end, of a point-to-point address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<IpAddr>,
    /// `universe` (`global` to iproute2), `link`, `host`.
    pub scope: String,
}

/// All that was asked for; kinds that were not asked for are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    pub links: Vec<Link>,
    pub addresses: Vec<Address>,
    /// Of all tables but `local`.
    pub routes: Vec<Route>,
    pub rules: Vec<PolicyRule>,
    pub neighbours: Vec<Neighbour>,
    pub fdb: Vec<Fdb>,
    pub listening: Vec<Listening>,
    pub files: Vec<FileFact>,
}

/// The personality `cknet facts`: writes one JSON object and a line feed.
pub fn run(options: &Options, out: &mut impl Write) -> Result<(), FactsError> {
    let facts = collect(options)?;
    serde_json::to_writer_pretty(&mut *out, &facts).map_err(std::io::Error::from)?;
    Ok(writeln!(out)?)
}
