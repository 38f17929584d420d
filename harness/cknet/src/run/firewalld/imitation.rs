//! What firewalld would make of its command lines, as far as documents use them: ports of the default zone, and
//! sources of the zone `trusted`. Pure.
//!
//! As with firewalld, what is permanent takes effect with the next `--reload`, and what is not is lost by it.

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::scenario::model::PortRange;

/// What is opened, and who is trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Zones {
    ports: BTreeSet<PortRange>,
    trusted: BTreeSet<IpNet>,
}

/// A firewalld that is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imitation {
    permanent: Zones,
    runtime: Zones,
}

/// A change of a zone.
enum Change {
    Port(PortRange, bool),
    Source(IpNet, bool),
}

impl Imitation {
    /// Does what a command line says.
    ///
    /// # Errors
    /// It says something that only firewalld itself understands.
    pub fn obey(&mut self, line: &str) -> Result<(), String> {
        let unknown =
            |word: &str| format!("`{line}`: `{word}` is understood by firewalld only, which is not used here");
        let (mut permanent, mut zone, mut changes) = (false, "public", Vec::new());
        for word in line.split_whitespace().skip(1) {
            match word.split_once('=').unwrap_or((word, "")) {
                ("--reload", "") => {
                    self.runtime = self.permanent.clone();
                    return Ok(());
                }
                ("--permanent", "") => permanent = true,
                ("--zone", name @ ("public" | "trusted")) => zone = name,
                ("--add-port", port) => changes.push(Change::Port(port.parse().map_err(|_| unknown(word))?, true)),
                ("--remove-port", port) => changes.push(Change::Port(port.parse().map_err(|_| unknown(word))?, false)),
                ("--add-source", block) => {
                    changes.push(Change::Source(block.parse().map_err(|_| unknown(word))?, true))
                }
                ("--remove-source", block) => {
                    changes.push(Change::Source(block.parse().map_err(|_| unknown(word))?, false));
                }
                _ => return Err(unknown(word)),
            }
        }
        let zones = if permanent { &mut self.permanent } else { &mut self.runtime };
        for change in changes {
            match (change, zone) {
                (Change::Port(port, true), "public") => drop(zones.ports.insert(port)),
                (Change::Port(port, false), "public") => drop(zones.ports.remove(&port)),
                (Change::Source(block, true), "trusted") => drop(zones.trusted.insert(block)),
                (Change::Source(block, false), "trusted") => drop(zones.trusted.remove(&block)),
                _ => return Err(unknown(&format!("--zone={zone}"))),
            }
        }
        Ok(())
    }

    /// The command line by which a node gets these rules.
    pub fn command(&self) -> Vec<String> {
        let ports = self.runtime.ports.iter().map(ToString::to_string);
        let trusted = self.runtime.trusted.iter().flat_map(|block| ["--trust".to_string(), block.to_string()]);
        ["cknet", "node-firewall", "zone"].map(String::from).into_iter().chain(ports).chain(trusted).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rstest::rstest;

    fn after(lines: &[&str]) -> String {
        let mut imitation = Imitation::default();
        lines.iter().for_each(|line| imitation.obey(line).unwrap());
        imitation.command()[3..].join(" ")
    }

    #[rstest]
    #[case::nothing(&[], "")]
    #[case::at_once(&["firewall-cmd --add-port=6443/tcp"], "6443/tcp")]
    #[case::permanent_waits(&["firewall-cmd --permanent --add-port=6443/tcp"], "")]
    #[case::until_reload(&["firewall-cmd --permanent --add-port=6443/tcp", "firewall-cmd --reload"], "6443/tcp")]
    #[case::runtime_is_lost(&["firewall-cmd --add-port=80/tcp", "firewall-cmd --reload"], "")]
    #[case::removed(&["firewall-cmd --add-port=80-90/udp", "firewall-cmd --remove-port=80-90/udp"], "")]
    #[case::trusted(&["firewall-cmd --zone=trusted --add-source=10.1.0.0/16"], "--trust 10.1.0.0/16")]
    #[case::several(&["firewall-cmd --add-port=2379-2380/tcp --add-port=4789/udp"], "2379-2380/tcp 4789/udp")]
    fn lines_are_obeyed(#[case] lines: &[&str], #[case] ports: &str) {
        assert_eq!(after(lines), ports);
    }

    #[rstest]
    #[case("firewall-cmd --add-rich-rule=x")]
    #[case("firewall-cmd --add-port=ssh/tcp")]
    #[case("firewall-cmd --zone=dmz --add-port=80/tcp")]
    #[case("firewall-cmd --zone=trusted --add-port=80/tcp")]
    #[case("firewall-cmd --add-source=10.0.0.0/8")]
    fn what_it_does_not_know_it_says(#[case] line: &str) {
        let error = Imitation::default().obey(line).unwrap_err();
        assert!(error.contains("firewalld only"), "{error}");
    }
}
