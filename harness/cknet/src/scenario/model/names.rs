//! Owns the names and ids of a scenario file as types of their own.
//! Must not know what is behind a name.

use super::super::read::{FromText, Read, Reading, text};
use super::super::tree::Node;

/// Why a word is not the value that is wanted: what would be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadText(pub String);

macro_rules! name {
    ($(#[$meta:meta])* $name:ident, $wanted:literal, $pattern:literal, $good:expr) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.0)
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.0 == other
            }
        }
        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.0 == *other
            }
        }
        impl FromText for $name {
            const WANTED: &'static str = $wanted;
            fn from_text(text: &str) -> Result<Self, String> {
                if $good(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(format!("not {}", $wanted))
                }
            }
        }
        impl std::str::FromStr for $name {
            type Err = BadText;
            fn from_str(text: &str) -> Result<Self, BadText> {
                Self::from_text(text).map_err(BadText)
            }
        }
        text!(@schema $name, stringify!($name), $wanted, $pattern);
    };
}

/// A name that has to be declared in the file where it is used.
macro_rules! reference {
    ($name:ident, $what:literal, $known:ident) => {
        impl Read for $name {
            fn read(node: &Node, r: &mut Reading<'_>) -> Option<Self> {
                let text = r.fixed_text(node, Self::WANTED)?;
                let known: Vec<&str> = r.declared.$known();
                if !known.contains(&text.as_str()) {
                    r.no_such(node.span, $what, &text, &known);
                    return None;
                }
                // A declared name of a wrong form is told where it is declared.
                Self::from_text(&text).ok()
            }
        }
    };
}

/// An id that is declared where it is read.
macro_rules! declaration {
    ($($name:ident),*) => { $(
        impl Read for $name {
            fn read(node: &Node, r: &mut Reading<'_>) -> Option<Self> {
                super::super::read::read_text(node, r)
            }
        }
    )* };
}

/// A DNS label: 1 to 63 of `a-z`, `0-9` and `-`, beginning and ending with a letter or digit.
pub(in super::super) fn dns_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| inner(b) || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn scenario_id(text: &str) -> bool {
    text.contains('.') && text.split('.').all(dns_label)
}

/// A Linux device name: 1 to 15 characters without `/` and white space.
fn device_name(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_graphic() && b != b'/' && b != b':')
        && text != "."
        && text != ".."
}

name! {
    /// Id of a scenario: its path under `scenarios/` with dots, `firewall.vxlan-port-blocked`.
    ScenarioId, "the path under `scenarios/` with dots, like `policy.deny-all-ingress`",
    r"^[a-z0-9-]+(\.[a-z0-9-]+)+$", scenario_id
}

impl ScenarioId {
    /// The name of the scenario with a sabotage: `SCENARIO~SABOTAGE`, which no file can have.
    pub(crate) fn variant(&self, sabotage: &SabotageId) -> Self {
        Self(format!("{}~{sabotage}", self.0))
    }
}

name! {
    /// Name of a workload, a pod that listens and probes.
    WorkloadName, "a workload's name: small letters, digits and `-`", r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", dns_label
}
name! {
    /// Name of a node; also its name in the cluster.
    NodeName, "a node's name: small letters, digits and `-`", r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", dns_label
}
name! {
    /// Name of a segment, a network that joins nodes.
    SegmentName, "a segment's name: small letters, digits and `-`", r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", dns_label
}
name! {
    /// Name of a namespace of the cluster.
    NamespaceName, "a namespace's name: small letters, digits and `-`", r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", dns_label
}
name! {
    /// Name of a service.
    ServiceName, "a service's name: small letters, digits and `-`", r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", dns_label
}
name! {
    /// Name of a node's network interface.
    NicName, "a device's name: at most 15 characters, no space, `/` or `:`", r"^[!-.0-9;-~]{1,15}$", device_name
}
name! {
    /// Name of a port, as Kubernetes writes it.
    PortName, "a port's name: small letters, digits and `-`, at most 15", r"^[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?$",
    |text: &str| dns_label(text) && text.len() <= 15
}
name! {
    /// Id of a phase, unique in its scenario.
    PhaseId, "an id: small letters, digits and `-`", r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", dns_label
}
name! {
    /// Id of an expectation, unique in its phase.
    ExpectationId, "an id: small letters, digits and `-`", r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", dns_label
}
name! {
    /// Id of a claim, unique in its scenario.
    ClaimId, "an id: small letters, digits and `-`", r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", dns_label
}
name! {
    /// Id of a sabotage, unique in its scenario.
    SabotageId, "an id: small letters, digits and `-`", r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", dns_label
}
name! {
    /// Name of a connection that stays open, unique in its scenario.
    ConnectionName, "a connection's name: small letters, digits and `-`", r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", dns_label
}
name! {
    /// A word by which scenarios are chosen.
    Tag, "a tag: small letters, digits and `-`", r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", dns_label
}

declaration!(ScenarioId, ConnectionName, NicName, PortName, ExpectationId, ClaimId, SabotageId, Tag);

reference!(WorkloadName, "workload", workload_names);
reference!(NodeName, "node", node_names);
reference!(SegmentName, "segment", segment_names);
reference!(NamespaceName, "namespace", namespace_names);
reference!(ServiceName, "service", service_names);
reference!(PhaseId, "phase", phase_ids);

impl ScenarioId {
    /// The id that a file has to have: its path below the last folder called `scenarios`, with
    /// dots and without extension. `None` if there is no such folder or the path is no id.
    #[must_use]
    pub fn of_path(path: &std::path::Path) -> Option<Self> {
        let stem = path.with_extension("");
        let parts: Vec<&str> = stem.iter().filter_map(|part| part.to_str()).collect();
        let top = parts.iter().rposition(|part| *part == "scenarios")?;
        Self::from_text(&parts[top + 1..].join(".")).ok()
    }
}

impl NamespaceName {
    /// The namespace `default`.
    #[must_use]
    pub fn default_namespace() -> Self {
        Self("default".to_owned())
    }
}

impl Default for NamespaceName {
    fn default() -> Self {
        Self::default_namespace()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_form_that_kubernetes_and_linux_ask_for() {
        assert!(dns_label("web-1") && !dns_label("Web") && !dns_label("-a") && !dns_label(""));
        assert!(!dns_label(&"a".repeat(64)));
        assert!(device_name("vxlan.calico") && !device_name("a-name-of-16-chr") && !device_name("a/b"));
        let path = std::path::Path::new("/x/scenarios/policy/deny-all.yaml");
        assert_eq!(ScenarioId::of_path(path).as_ref().map(ScenarioId::as_str), Some("policy.deny-all"));
        assert_eq!(ScenarioId::of_path(std::path::Path::new("policy/deny-all.yaml")), None);
        assert!(scenario_id("policy.deny-all") && !scenario_id("policy") && !scenario_id("a..b"));
    }
}
