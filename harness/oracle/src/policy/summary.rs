//! Rules in a few words: "`app=frontend` on 8080/TCP". Text only, no meaning.

use std::fmt;

use super::{Peer, PortMatch, PortRange, Rule};

/// `app=web in namespaces team=a`, `all pods of the namespace`, `10.0.0.0/8 except 10.1.0.0/16`.
impl fmt::Display for Peer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (pods, namespaces) = match self {
            Self::Block(block) => return write!(out, "{block}"),
            Self::Pods { pods, namespaces } => (pods, namespaces),
        };
        match pods.as_ref().filter(|pods| !pods.is_everything()) {
            Some(pods) => write!(out, "{pods}")?,
            None => out.write_str("all pods")?,
        }
        match namespaces {
            None if pods.as_ref().is_some_and(|pods| !pods.is_everything()) => Ok(()),
            None => out.write_str(" of its namespace"),
            Some(all) if all.is_everything() => out.write_str(" in all namespaces"),
            Some(some) => write!(out, " in namespaces {some}"),
        }
    }
}

/// `8080/TCP`, `80-90/UDP`, `` `http`/TCP ``, `any port/SCTP`.
impl fmt::Display for PortMatch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.port {
            PortRange::Any => out.write_str("any port")?,
            PortRange::Numbers { first, last } if first == last => write!(out, "{first}")?,
            PortRange::Numbers { first, last } => write!(out, "{first}-{last}")?,
            PortRange::Named(name) => write!(out, "`{name}`")?,
        }
        write!(out, "/{}", self.protocol)
    }
}

/// `app=a or app=b on 80/TCP or 53/UDP`.
impl fmt::Display for Rule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.peers.is_empty() {
            out.write_str("anything")?;
        }
        alternatives(out, &self.peers)?;
        if self.ports.is_empty() {
            return out.write_str(" on every port");
        }
        out.write_str(" on ")?;
        alternatives(out, &self.ports)
    }
}

fn alternatives<T: fmt::Display>(out: &mut fmt::Formatter<'_>, items: &[T]) -> fmt::Result {
    for (position, item) in items.iter().enumerate() {
        if position > 0 {
            out.write_str(" or ")?;
        }
        write!(out, "{item}")?;
    }
    Ok(())
}
