//! Rules by which the kernel chooses a table of routes.

use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use serde::{Deserialize, Serialize};

/// One rule; what it does not name, it does not ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRule {
    pub family: String,
    pub priority: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<IpNet>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<IpNet>,
    /// The device through which the packet came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iif: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oif: Option<String>,
    /// Mark and mask, `0x100/0xf00`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
    /// What becomes of the packet: `table 254`, `goto 100`, `blackhole` …
    pub action: String,
}

pub(super) fn rule(message: &RuleMessage) -> PolicyRule {
    let header = &message.header;
    let mut rule = PolicyRule {
        family: if header.family == AddressFamily::Inet6 { "ip6".into() } else { "ip".into() },
        priority: 0,
        from: None,
        to: None,
        iif: None,
        oif: None,
        mark: None,
        action: String::new(),
    };
    let (mut table, mut target) = (u32::from(header.table), None);
    let (mut mark, mut mask) = (None, u32::MAX);
    let network = |address: &IpAddr, length| IpNet::new(*address, length).ok();
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(number) => rule.priority = *number,
            RuleAttribute::Source(address) => rule.from = network(address, header.src_len),
            RuleAttribute::Destination(address) => rule.to = network(address, header.dst_len),
            RuleAttribute::Iifname(name) => rule.iif = Some(name.clone()),
            RuleAttribute::Oifname(name) => rule.oif = Some(name.clone()),
            RuleAttribute::FwMark(value) => mark = Some(*value),
            RuleAttribute::FwMask(value) => mask = *value,
            RuleAttribute::Table(number) => table = *number,
            RuleAttribute::Goto(priority) => target = Some(*priority),
            _ => {}
        }
    }
    rule.mark = mark.map(|mark| format!("{mark:#x}/{mask:#x}"));
    rule.action = match (header.action, target) {
        (RuleAction::ToTable, _) => format!("table {table}"),
        (RuleAction::Goto, Some(priority)) => format!("goto {priority}"),
        (other, _) => format!("{other:?}").to_lowercase(),
    };
    rule
}
