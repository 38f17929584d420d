//! A guard: a firewall that lets in nothing but what is opened. Kept, like everything of the firewall, in the kernel
//! only: the comments of its rules say what it is.
//!
//! Acts on the calling thread's network namespace. Must not know why a port is opened.

use cknet_kernel::nft::{
    Base, Batch, Chain, CtState, CtStatus, Direction, Family, Field, Nft, Protocol as Transport, Reject, Rule, Table,
    priority,
};
use ipnet::IpNet;

use super::closure::{Nic, Ports, Scope, Way};
use super::rules::{FirewallError, number};

const FAMILY: Family = Family::Inet;
const TABLE: &str = "cknet_guard";
/// The table of the real one.
const FIREWALLD: &str = "firewalld";
/// Where firewalld sits, as for what is closed: after those who accept at priority filter.
const PRIORITY: i32 = priority::FILTER + 10;
const INPUT: &str = "input";
const FORWARD: &str = "forward";
/// Comments, by which a guard is read back.
const OPENED: &str = "opened ";
const TRUSTED: &str = "trusted ";
const NOT_OPENED: &str = "not opened";
const NOT_OPENED_THROUGH: &str = "not opened, through ";

/// How a guard treats what is not opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manner {
    /// A wall around the node: what comes in through these devices is dropped in silence, also when it asks for a
    /// port that the node translates. Answers and ICMP come in. What the node merely passes on is not its business.
    Wall { at: Vec<Nic> },
    /// firewalld's default zone, as firewalld 1.3 makes it with no interface assigned: everything to the node is
    /// refused but answers, what was translated, ICMP, SSH; and *so is everything that the node passes on* without
    /// having translated it. Who is trusted may do both.
    Zone { trusted: Vec<IpNet> },
}

/// A guard and what it lets in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    pub manner: Manner,
    pub opened: Vec<Ports>,
}

/// A guard opens for everybody, on the way in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot open `{0}` for some only: a guard is in force, which opens for everybody and on the way in")]
pub struct TooNarrow(Ports);

impl Guard {
    /// Opens ports for everybody.
    ///
    /// # Errors
    /// They were to be opened for somebody only.
    pub fn open(&mut self, ports: Ports, ways: &[Way], scope: &Scope) -> Result<(), TooNarrow> {
        if scope != &Scope::default() {
            return Err(TooNarrow(ports));
        }
        if ways.contains(&Way::In) && !self.opened.contains(&ports) {
            self.opened.push(ports);
        }
        Ok(())
    }

    fn table(&self) -> Table {
        let (input, forward) = match &self.manner {
            Manner::Wall { at } => self.wall(at),
            Manner::Zone { trusted } => self.zone(trusted),
        };
        let chain = |name, base, rules: Vec<Rule>| rules.into_iter().fold(Chain::base(name, base), Chain::with_rule);
        Table::new(FAMILY, TABLE).with_chain(chain(INPUT, Base::input(PRIORITY), input)).with_chain(chain(
            FORWARD,
            Base::forward(PRIORITY),
            forward,
        ))
    }

    fn wall(&self, at: &[Nic]) -> (Vec<Rule>, Vec<Rule>) {
        let end =
            |rule: Rule, nic: &Nic| rule.counter().drop().comment(format!("{NOT_OPENED_THROUGH}{}", nic.as_str()));
        let enters = |nic: &Nic| Rule::new().iifname(nic.as_str());
        let asked = |nic| enters(nic).ct_status(CtStatus::DNAT).ct_direction(Direction::Original);
        let mut input = vec![answers(), icmp()];
        input.extend(self.opened.iter().map(|ports| plain(*ports)));
        input.extend(self.opened.iter().map(|ports| translated(*ports)));
        input.extend(at.iter().map(|nic| end(enters(nic), nic)));
        let mut forward = vec![answers()];
        forward.extend(self.opened.iter().map(|ports| translated(*ports)));
        forward.extend(at.iter().map(|nic| end(asked(nic), nic)));
        (input, forward)
    }

    fn zone(&self, trusted: &[IpNet]) -> (Vec<Rule>, Vec<Rule>) {
        let refuse = || Rule::new().counter().reject(Reject::AdminProhibited).comment(NOT_OPENED);
        let begin = || {
            vec![
                answers(),
                Rule::new().ct_status(CtStatus::DNAT).accept(),
                Rule::new().iifname("lo").accept(),
                Rule::new().ct_state(CtState::INVALID).counter().drop().comment("invalid"),
            ]
        };
        let trust =
            || trusted.iter().map(|block| Rule::new().saddr_in(*block).accept().comment(format!("{TRUSTED}{block}")));
        let mut input = begin();
        input.extend(trust());
        input.push(Rule::new().protocol(Transport::TCP).dport(22).accept());
        input.extend(self.opened.iter().map(|ports| plain(*ports)));
        input.extend([icmp(), refuse()]);
        let mut forward = begin();
        forward.extend(trust());
        forward.push(refuse());
        (input, forward)
    }
}

fn answers() -> Rule {
    Rule::new().ct_state(CtState(CtState::ESTABLISHED.0 | CtState::RELATED.0)).accept()
}

fn icmp() -> Rule {
    Rule::new().protocol(Transport::ICMP).accept()
}

fn plain(ports: Ports) -> Rule {
    let rule = Rule::new().protocol(number(ports.protocol)).dports(ports.first, ports.last);
    rule.accept().comment(format!("{OPENED}{ports}"))
}

/// The port that counts is the one that the client asked for.
fn translated(ports: Ports) -> Rule {
    let rule = Rule::new().protocol(number(ports.protocol)).ct_status(CtStatus::DNAT);
    rule.ct_direction(Direction::Original).within(Field::CtOriginalPort, ports.first, ports.last).accept()
}

/// Makes this the node's guard, in the place of the one before; none takes it away.
pub fn apply(guard: Option<&Guard>) -> Result<(), FirewallError> {
    let mut nft = Nft::open().map_err(FirewallError::Change)?;
    let mut batch = Batch::new();
    match guard {
        Some(guard) => batch.replace(&guard.table()),
        None => {
            batch.add_table(FAMILY, TABLE);
            batch.delete_table(FAMILY, TABLE);
        }
    }
    nft.send(batch).map_err(FirewallError::Change)
}

/// Takes away what an ended firewalld left: killed, it has no time to do so itself.
pub fn clear_firewalld() -> Result<(), FirewallError> {
    let mut batch = Batch::new();
    for family in [Family::Inet, Family::Ip, Family::Ip6] {
        // Deleting what does not exist fails, so it is made to exist first.
        batch.add_table(family, FIREWALLD);
        batch.delete_table(family, FIREWALLD);
    }
    Nft::open().and_then(|mut nft| nft.send(batch)).map_err(FirewallError::Change)
}

/// The guard in force.
pub fn read() -> Result<Option<Guard>, FirewallError> {
    let rules = Nft::open().and_then(|mut nft| nft.rules(FAMILY, TABLE)).map_err(FirewallError::Read)?;
    let input = rules.iter().filter(|rule| rule.chain == INPUT);
    Ok(guard_of(input.filter_map(|rule| rule.comment.as_deref())))
}

/// The guard whose rules have these comments.
fn guard_of<'c>(comments: impl Iterator<Item = &'c str>) -> Option<Guard> {
    let (mut opened, mut trusted, mut at, mut is_zone) = (Vec::new(), Vec::new(), Vec::new(), false);
    for comment in comments {
        if let Some(ports) = comment.strip_prefix(OPENED) {
            opened.extend(ports.parse::<Ports>().ok());
        } else if let Some(block) = comment.strip_prefix(TRUSTED) {
            trusted.extend(block.parse::<IpNet>().ok());
        } else if let Some(nic) = comment.strip_prefix(NOT_OPENED_THROUGH) {
            at.extend(Nic::new(nic).ok());
        } else if comment == NOT_OPENED {
            is_zone = true;
        }
    }
    let manner = match (is_zone, at.is_empty()) {
        (true, _) => Manner::Zone { trusted },
        (false, false) => Manner::Wall { at },
        (false, true) => return None,
    };
    Some(Guard { manner, opened })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rstest::rstest;

    fn ports(texts: &[&str]) -> Vec<Ports> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[rstest]
    #[case(Manner::Wall { at: vec![Nic::new("eth0").unwrap(), Nic::new("eth1").unwrap()] }, &["6443/tcp", "30000-32767/udp"])]
    #[case(Manner::Wall { at: vec![Nic::new("eth0").unwrap()] }, &[])]
    #[case(Manner::Zone { trusted: vec!["10.1.0.0/16".parse().unwrap()] }, &["4789/udp"])]
    #[case(Manner::Zone { trusted: vec![] }, &[])]
    fn a_guard_is_read_back_from_its_comments(#[case] manner: Manner, #[case] opened: &[&str]) {
        let guard = Guard { manner, opened: ports(opened) };
        let table = guard.table();
        let comments = table.chains[INPUT].rules.iter().filter_map(|rule| rule.comment.as_deref());
        assert_eq!(guard_of(comments), Some(guard.clone()));
    }

    #[test]
    fn where_there_is_no_guard_none_is_read() {
        assert_eq!(guard_of(["something else"].into_iter()), None);
    }

    #[test]
    fn a_guard_opens_for_everybody() {
        let mut guard = Guard { manner: Manner::Zone { trusted: vec![] }, opened: ports(&["80/tcp"]) };
        guard.open("80/tcp".parse().unwrap(), &[Way::In], &Scope::default()).unwrap();
        guard.open("81/tcp".parse().unwrap(), &[Way::In, Way::Out], &Scope::default()).unwrap();
        guard.open("82/tcp".parse().unwrap(), &[Way::Out], &Scope::default()).unwrap();
        assert_eq!(guard.opened, ports(&["80/tcp", "81/tcp"]));
        let some = Scope { nic: Nic::new("eth0").ok(), ..Scope::default() };
        assert!(guard.open("83/tcp".parse().unwrap(), &[Way::In], &some).is_err());
    }
}
