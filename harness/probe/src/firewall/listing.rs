//! All packet rules of a network namespace as text, for whoever looks afterwards: every table, chain and rule with
//! what it has counted, where no `nft` is at hand.
//!
//! It names what a rule matches by the kernel's words for its expressions and by its comment: enough to see which rules
//! were hit, not enough to write them again.

use std::io::Write;

use cknet_kernel::nft::{Base, ChainKind, Family, Hook, LiveChain, LiveRule, Nft, Policy};

use super::drops::DropsError;

/// Prints them, in the calling thread's network namespace.
pub fn run(stdout: &mut dyn Write) -> Result<(), DropsError> {
    let mut nft = Nft::open()?;
    for family in [Family::Inet, Family::Ip, Family::Ip6] {
        for table in nft.tables(family)? {
            writeln!(stdout, "table {} {table}", family.name())?;
            for set in nft.sets(family, &table)? {
                // A set may be gone by now, and is told as such by its absence.
                let Ok(elements) = nft.elements(family, &table, &set) else { continue };
                writeln!(stdout, "  set {set}: {} elements", elements.len())?;
            }
            let rules = nft.rules(family, &table)?;
            for chain in nft.chains(family, &table)? {
                writeln!(stdout, "  chain {}", headline(&chain))?;
                for rule in rules.iter().filter(|rule| rule.chain == chain.name) {
                    writeln!(stdout, "    {}", line(rule))?;
                }
            }
        }
    }
    Ok(())
}

/// The chain, and where the kernel calls it from.
fn headline(chain: &LiveChain) -> String {
    let Some(Base { kind, hook, priority, policy }) = chain.base else { return chain.name.clone() };
    let kind = match kind {
        ChainKind::Filter => "filter",
        ChainKind::Nat => "nat",
        ChainKind::Route => "route",
    };
    let hook = match hook {
        Hook::Prerouting => "prerouting",
        Hook::Input => "input",
        Hook::Forward => "forward",
        Hook::Output => "output",
        Hook::Postrouting => "postrouting",
    };
    let policy = match policy {
        Policy::Accept => "accept",
        Policy::Drop => "drop",
    };
    format!("{}  type {kind} hook {hook} priority {priority} policy {policy}", chain.name)
}

fn line(rule: &LiveRule) -> String {
    let mut parts = vec![format!("{}:", rule.handle)];
    parts.extend(rule.counter.map(|counter| format!("packets {} bytes {}", counter.packets, counter.bytes)));
    parts.push(format!("[{}]", rule.expressions.join(" ")));
    parts.extend(rule.leads_to.iter().map(|chain| format!("-> {chain}")));
    parts.extend(rule.ends.then(|| "ends here".to_string()));
    parts.extend(rule.comment.iter().map(|comment| format!("# {comment}")));
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use cknet_kernel::nft::Counter;

    #[test]
    fn a_rule_is_told_with_what_it_counted_and_where_it_leads() {
        let rule = LiveRule {
            chain: "forward".into(),
            handle: 7,
            comment: Some("policy production/deny".into()),
            counter: Some(Counter { packets: 3, bytes: 180 }),
            expressions: vec!["meta".into(), "cmp".into(), "counter".into(), "immediate".into()],
            ends: false,
            leads_to: Some("to-w1".into()),
        };
        let told = "7: packets 3 bytes 180 [meta cmp counter immediate] -> to-w1 # policy production/deny";
        assert_eq!(line(&rule), told);
        let chain = LiveChain { name: "input".into(), base: Some(Base::input(0)) };
        assert_eq!(headline(&chain), "input  type filter hook input priority 0 policy accept");
    }
}
