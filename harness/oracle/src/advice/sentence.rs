//! Advice as sentences. Text only.

use std::fmt::{self, Display, Formatter};

use super::{Advice, Finding, Weight};

/// `` `spec.egress`: ... ``.
impl Display for Advice {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "`{}`: {}", self.path, self.finding)
    }
}

impl Display for Weight {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::NoEffect => "no effect",
            Self::Surprise => "surprise",
            Self::Undefined => "undefined",
        })
    }
}

impl Display for Finding {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::SelectsNoPod { selector, namespace, elsewhere } => {
                write!(out, "no pod of namespace `{namespace}` matches {selector}, the policy ")?;
                out.write_str("applies to nobody")?;
                but_elsewhere(out, elsewhere)
            }
            Self::SelectsHostNetworkPods { pods } => {
                write!(out, "{} in the network of the node, where most plugins apply no policy", are(pods))
            }
            Self::RulesIgnored { direction, rules } => write!(
                out,
                "{} without effect, as `policyTypes` leaves out {direction}",
                count(*rules, "rule is", "rules are")
            ),
            Self::AlsoIsolatesIngress => out.write_str(
                "it is absent, so that the policy also isolates for ingress and, having no \
                 ingress rule, denies all of it; `policyTypes: [Egress]` isolates for egress alone",
            ),
            Self::OtherRulesMoot { direction, rules } => write!(
                out,
                "this rule allows everything, and the other {} nothing",
                count(*rules, &format!("{direction} rule adds"), &format!("{direction} rules add"))
            ),
            Self::PeerMeansNoPod { peer, elsewhere } => {
                write!(out, "{peer}: no pod is meant")?;
                but_elsewhere(out, elsewhere)
            }
            Self::SelectsNoNamespace { selector, named } => {
                write!(out, "no namespace matches {selector}")?;
                match named {
                    Some(name) => write!(out, "; namespace `{name}` has the label kubernetes.io/metadata.name={name}"),
                    None => Ok(()),
                }
            }
            Self::AlternativesNotBoth { namespaces, pods } => write!(
                out,
                "these are alternatives: every pod in namespaces {namespaces}, or pods {pods} of \
                 the policy's own namespace; both selectors in one element mean pods that match both"
            ),
            Self::PortNameUnserved { name, protocol, other } => {
                write!(out, "no pod that this is about has a port `{name}` for {protocol}")?;
                match other {
                    Some(other) => write!(out, "; it is one for {other}"),
                    None => Ok(()),
                }
            }
            Self::PortNameDiffers { name, numbers } => {
                let numbers: Vec<_> = numbers.iter().map(u16::to_string).collect();
                write!(out, "`{name}` is {} on different pods, ", numbers.join(" and "))?;
                out.write_str("which some plugins do not resolve for each pod")
            }
            Self::PortOfService { port, service, target } => write!(
                out,
                "{port} is a port of service `{service}`, but policies act on its backends' port, \
                 which is {target}"
            ),
            Self::BlockCoversPods { block, pods } => {
                match pods {
                    0 => write!(out, "{block} has addresses that pods may get")?,
                    some => {
                        write!(out, "{block} has the addresses of ")?;
                        out.write_str(&count(*some, "pod", "pods"))?;
                    }
                }
                out.write_str("; whether an ipBlock covers pods is up to the plugin, use selectors")
            }
            Self::BlockCoversServices { block, services } => write!(
                out,
                "{block} has the address of {}; most plugins see the backends' addresses instead",
                listed(services)
            ),
            Self::BlockIsEmpty { block } => write!(out, "{block} leaves no address"),
            Self::OneFamilyOnly { cidr } => {
                write!(out, "{cidr} says nothing of the other family, which these pods have too")
            }
            Self::ExceptionUndone { part, by } => {
                write!(out, "an exception is no denial: {by} lets addresses of {part} pass all the same")
            }
            Self::NoNameResolution { pods } => {
                write!(out, "{} without name resolution: no rule allows 53/UDP to the DNS servers", are(pods))
            }
            Self::NameResolutionWithoutTcp { pods } => write!(
                out,
                "{} without name resolution over TCP, which large answers need: allow 53/TCP too",
                are(pods)
            ),
        }
    }
}

fn but_elsewhere(out: &mut Formatter<'_>, namespaces: &[String]) -> fmt::Result {
    if namespaces.is_empty() {
        return Ok(());
    }
    let noun = if namespaces.len() > 1 { "namespaces" } else { "namespace" };
    write!(out, "; such pods are in {noun} {}", listed(namespaces))
}

fn count(number: usize, one: &str, several: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { several })
}

fn are(names: &[String]) -> String {
    let verb = if names.len() > 1 { "are" } else { "is" };
    format!("{} {verb}", listed(names))
}

/// The first few names.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let first = names.iter().take(SHOWN);
    let first: Vec<_> = first.map(|name| format!("`{name}`")).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}
