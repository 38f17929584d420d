//! What can go wrong with nf_tables, and how a refused message is named.
//!
//! A refused message is described from its own bytes, so that a transaction carries no names around for the case
//! that it fails.

use std::fmt;
use std::io;

use nix::errno::Errno;

use super::batch::{
    DEL_CHAIN, DEL_ELEMENTS, DEL_RULE, DEL_SET, DEL_TABLE, NEW_CHAIN, NEW_ELEMENTS, NEW_RULE, NEW_SET, NEW_TABLE,
    comment_of,
};
use super::wire::{Message, messages};

#[derive(Debug, thiserror::Error)]
pub enum NftError {
    #[error("cannot open a netlink socket to nf_tables: {0}")]
    Open(#[source] io::Error),
    #[error("cannot send {messages} changes ({bytes} bytes) to nf_tables as one transaction: {source}")]
    Send { messages: usize, bytes: usize, source: io::Error },
    #[error("cannot receive nf_tables' answer: {0}")]
    Receive(#[source] io::Error),
    #[error("nf_tables refused {}", list(.0))]
    Refused(Vec<Refusal>),
    #[error("nf_tables refused the transaction as a whole: `{errno}`{}", hint(*.errno))]
    Transaction { errno: Errno },
    #[error("nf_tables gave no answer to a transaction of {messages} changes ({bytes} bytes)")]
    Silence { messages: usize, bytes: usize },
    #[error("cannot list {what} of nf_tables: `{errno}`")]
    List { what: String, errno: Errno },
    #[error("nf_tables kept changing while {what} was listed {attempts} times")]
    Restless { what: String, attempts: usize },
}

impl NftError {
    /// The kernel's error numbers, if it was the kernel that refused.
    pub fn errnos(&self) -> Vec<Errno> {
        match self {
            Self::Refused(refusals) => refusals.iter().map(|refusal| refusal.errno).collect(),
            Self::Transaction { errno } | Self::List { errno, .. } => vec![*errno],
            _ => Vec::new(),
        }
    }
}

/// One change that the kernel refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For example: "to add rule `no tunnel` to chain `input` of table `inet example`".
    pub what: String,
    pub errno: Errno,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: `{}`{}", self.what, self.errno, hint(self.errno))
    }
}

/// Refusals beyond these follow from them, as a rule.
const SHOWN: usize = 5;

fn list(refusals: &[Refusal]) -> String {
    let mut text = refusals.iter().take(SHOWN).map(ToString::to_string).collect::<Vec<_>>().join("; ");
    if refusals.len() > SHOWN {
        text.push_str(&format!("; and {} more", refusals.len() - SHOWN));
    }
    text
}

fn hint(errno: Errno) -> &'static str {
    match errno {
        Errno::EPERM => " (needs CAP_NET_ADMIN in the network namespace)",
        Errno::ENOTSUP => " (the kernel lacks this expression or family)",
        _ => "",
    }
}

/// What the message in `bytes` asked for.
pub(super) fn describe(bytes: &[u8]) -> String {
    messages(bytes).next().map_or_else(|| "an unreadable message".into(), describe_message)
}

fn describe_message(message: Message<'_>) -> String {
    let attributes = message.attributes();
    let text = |kind| attributes.text(kind).unwrap_or_default();
    let table = format!("table `{} {}`", family_name(message.body), text(1));
    match message.kind {
        NEW_TABLE => format!("to add {table}"),
        DEL_TABLE => format!("to delete {table}"),
        NEW_CHAIN => format!("to add chain `{}` to {table}", text(3)),
        DEL_CHAIN => format!("to delete chain `{}` of {table}", text(3)),
        NEW_RULE => {
            let comment = attributes.find(7).and_then(comment_of);
            let name = comment.map_or_else(|| "a rule".into(), |comment| format!("rule `{comment}`"));
            format!("to add {name} to chain `{}` of {table}", text(2))
        }
        DEL_RULE => match attributes.be64(3) {
            Some(handle) => format!("to delete rule {handle} of chain `{}` of {table}", text(2)),
            None => format!("to delete the rules of chain `{}` of {table}", text(2)),
        },
        NEW_SET => format!("to add set `{}` to {table}", text(2)),
        DEL_SET => format!("to delete set `{}` of {table}", text(2)),
        NEW_ELEMENTS => format!("to add elements to set `{}` of {table}", text(2)),
        DEL_ELEMENTS => format!("to delete elements of set `{}` of {table}", text(2)),
        other => format!("message type {other:#x}"),
    }
}

fn family_name(body: &[u8]) -> &'static str {
    match body.first() {
        Some(1) => "inet",
        Some(2) => "ip",
        Some(10) => "ip6",
        _ => "?",
    }
}
