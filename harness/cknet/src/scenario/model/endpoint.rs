//! Owns how the two ends of a flow are written.
//! Must not know what is sent between them.

use std::fmt;
use std::net::IpAddr;

use super::super::read::{FromText, Read, Reading, text};
use super::super::source::Span;
use super::super::tree::Node;
use super::{NodeName, ServiceName, WorkloadName};

/// One end of a flow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// `NAME`: a workload's pod.
    Workload(WorkloadName),
    /// `node:NAME`: a node itself, outside of any pod.
    Node(NodeName),
    /// `service:NAME`: a service, by its virtual address.
    Service(ServiceName),
    /// An IP address.
    Address(IpAddr),
}

const WANTED: &str = "an end of a flow: a workload, `node:NAME`, `service:NAME` or an address";

impl Endpoint {
    pub(in super::super) fn read_at(text: &str, span: Span, r: &mut Reading<'_>) -> Option<Self> {
        if let Ok(address) = text.parse() {
            return Some(Self::Address(address));
        }
        match text.split_once(':') {
            None => {
                let known = r.declared.workload_names();
                named(text, span, "workload", &known, r).map(Self::Workload)
            }
            Some(("node", name)) => {
                let known = r.declared.node_names();
                named(name, span, "node", &known, r).map(Self::Node)
            }
            Some(("service", name)) => {
                let known = r.declared.service_names();
                named(name, span, "service", &known, r).map(Self::Service)
            }
            Some(_) => {
                r.problem(span, format!("`{text}` is not {WANTED}"));
                None
            }
        }
    }
}

fn named<N: FromText>(name: &str, span: Span, what: &str, known: &[&str], r: &mut Reading<'_>) -> Option<N> {
    if !known.contains(&name) {
        r.no_such(span, what, name, known);
        return None;
    }
    // A declared name of a wrong form is told where it is declared.
    N::from_text(name).ok()
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload(name) => name.fmt(f),
            Self::Node(name) => f.pad(&format!("node:{name}")),
            Self::Service(name) => f.pad(&format!("service:{name}")),
            Self::Address(address) => f.pad(&address.to_string()),
        }
    }
}

impl Read for Endpoint {
    fn read(node: &Node, r: &mut Reading<'_>) -> Option<Self> {
        let text = r.fixed_text(node, WANTED)?;
        Self::read_at(&text, node.span, r)
    }
}

text!(@schema Endpoint, "Endpoint",
    "an end of a flow: a workload, `node:NAME`, `service:NAME` or an address",
    r"^((node:|service:)?[a-z0-9-]+|[0-9a-fA-F.:]+|\$\{.+\})$");

/// By which address a flow goes to its target.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Via {
    /// `pod`: the address of the target itself.
    #[default]
    Pod,
    /// `service`: the virtual address of the one service that selects the target.
    Service,
    /// `nodePort:NODE`: the service's port on that node.
    NodePort(NodeName),
    /// `hostPort`: the port of the target's node that leads to it.
    HostPort,
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod => f.pad("pod"),
            Self::Service => f.pad("service"),
            Self::NodePort(node) => f.pad(&format!("nodePort:{node}")),
            Self::HostPort => f.pad("hostPort"),
        }
    }
}

const VIA: &str = "a way to the target: `pod`, `service`, `nodePort:NODE` or `hostPort`";

impl Read for Via {
    fn read(node: &Node, r: &mut Reading<'_>) -> Option<Self> {
        let text = r.fixed_text(node, VIA)?;
        match text.split_once(':') {
            None if text == "pod" => Some(Self::Pod),
            None if text == "service" => Some(Self::Service),
            None if text == "hostPort" => Some(Self::HostPort),
            Some(("nodePort", name)) => {
                let known = r.declared.node_names();
                named(name, node.span, "node", &known, r).map(Self::NodePort)
            }
            _ => {
                r.problem(node.span, format!("`{text}` is not {VIA}"));
                None
            }
        }
    }
}

text!(@schema Via, "Via",
    "a way to the target: `pod`, `service`, `nodePort:NODE` or `hostPort`",
    r"^(pod|service|hostPort|nodePort:[a-z0-9-]+)$");
