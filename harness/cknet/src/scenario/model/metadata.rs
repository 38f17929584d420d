//! Owns what a scenario says about itself: its id, its source in a document, its claims, what it
//! needs. Must not know the cluster and the network.

use std::fmt;

use super::super::read::{record, text, words};
use super::{ClaimId, Day, ScenarioId, Tag};

record! {
    "`metadata`";
    /// What a scenario is called and where it comes from.
    pub struct Metadata {
        /// The path under `scenarios/` with dots, without `.yaml`; stable for ever.
        pub id: ScenarioId,
        /// One line that says what is shown.
        pub title: String,
        /// What kind of passage of the document this follows.
        pub kind: Kind,
        /// How much depends on it.
        pub severity: Severity,
        /// Words by which scenarios are chosen.
        #[schemars(default)]
        pub tags: Vec<Tag> = Default::default(),
        /// The passage of the document, `FILE.md#anchor`.
        pub docs: Citation,
        /// More than the title says.
        pub description: Option<String>,
    }
}

words! {
    "a kind of scenario";
    /// What kind of passage of the document a scenario follows.
    pub enum Kind {
        /// A way of doing something.
        Pattern = "pattern",
        /// A mistake and its cure: has a phase `wrong` and a phase `correct`.
        Pitfall = "pitfall",
        /// A symptom, its diagnosis and its cure.
        Troubleshooting = "troubleshooting",
        /// Two systems together.
        Integration = "integration",
        /// How it is in another distribution.
        Contrast = "contrast",
    }
}

words! {
    "a severity";
    /// How much depends on a scenario.
    pub enum Severity {
        /// Without it a cluster is of no use.
        Critical = "critical",
        /// Something that is promised does not work.
        Major = "major",
        /// An inconvenience.
        Minor = "minor",
    }
}

/// A passage of a document: the file's name and the anchor of a heading.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Citation {
    /// File under `fixtures/documents`.
    pub file: String,
    /// Anchor of a heading, as GitHub makes them.
    pub anchor: String,
}

impl fmt::Display for Citation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.file, self.anchor)
    }
}

text!(Citation, "Citation", "a passage of a document, like `FILE.md#anchor`",
pattern r"^[^#/]+#.+$",
parse |text: &str| match text.split_once('#') {
    Some((file, anchor)) if !file.is_empty() && !anchor.is_empty() => {
        Ok(Self { file: file.to_owned(), anchor: anchor.to_owned() })
    }
    _ => Err(format!("`{text}` is not {}", Self::WANTED)),
});

record! {
    "a claim";
    /// One thing that the document says; it gets a verdict of its own.
    pub struct Claim {
        /// By which expectations name it.
        pub id: ClaimId,
        /// What is said, in the words of the document where they are short enough.
        pub text: String,
        /// The passage, if it is another than the scenario's.
        pub docs: Option<Citation>,
        /// What is true instead, of a claim that an expectation `refutes`.
        pub instead: Option<String>,
        /// The issue or passage in which that is told.
        pub reference: Option<String>,
    }
}

record! {
    "`requires`";
    /// Without which of the runner's abilities a scenario cannot run.
    #[derive(Default)]
    pub struct Requirements {
        /// What provider and distribution have to be able to do.
        #[schemars(default)]
        pub capabilities: Vec<Capability> = Default::default(),
        /// The least faithful kind of cluster on which a verdict means something.
        #[schemars(default)]
        pub fidelity: Fidelity = Fidelity::default(),
    }
}

words! {
    "a capability";
    /// Something that not each provider and distribution can do.
    pub enum Capability {
        /// Pods of different nodes are joined by an overlay.
        Overlay = "overlay",
        /// Pods of different nodes are joined by routes that BGP announces.
        Bgp = "bgp",
        /// The CNI is Calico: it is told things in Calico's own objects, and its overlay has a parent device.
        Calico = "calico",
        /// NetworkPolicy is enforced.
        NetworkPolicy = "network-policy",
        /// Services have virtual addresses.
        Services = "services",
        /// Names of services and pods are answered.
        Dns = "dns",
        /// The firewall of a node can be changed.
        NodeFirewall = "node-firewall",
        /// firewalld itself can be run on a node.
        Firewalld = "firewalld",
        /// tinyproxy can be run on a node.
        Tinyproxy = "tinyproxy",
        /// squid can be run on a node.
        Squid = "squid",
        /// Nodes can have more than one interface, in segments of their own.
        NodeInterfaces = "node-interfaces",
        /// Devices of a node can be changed.
        NodeLinks = "node-links",
        /// Commands can be run on a node.
        NodeCommands = "node-commands",
        /// A component can be stopped and started.
        ComponentControl = "component-control",
        /// The kernel knows SCTP.
        Sctp = "sctp",
        /// Pod and service CIDRs can be chosen.
        CustomCidrs = "custom-cidrs",
    }
}

impl Capability {
    /// What a machine that lacks it can be given, if it is to be had so simply.
    #[must_use]
    pub const fn remedy(self) -> Option<&'static str> {
        match self {
            Self::Firewalld => Some("apt-get install firewalld dbus-daemon"),
            Self::Tinyproxy => Some("apt-get install tinyproxy-bin"),
            Self::Squid => Some("apt-get install squid, and run as root"),
            Self::Bgp => Some("apt-get install bird2"),
            Self::Sctp => Some("where the kernel has SCTP as a module, modprobe sctp"),
            _ => None,
        }
    }
}

words! {
    "a fidelity";
    /// How much a cluster resembles the one the document is about.
    #[derive(Default)]
    pub enum Fidelity {
        /// The reference distribution in network namespaces of one kernel.
        #[default]
        Model = "model",
        /// The reference distribution on kernels of their own.
        Dataplane = "dataplane",
        /// A real distribution.
        Cluster = "cluster",
    }
}

record! {
    "a known deviation";
    /// An expectation that is known not to hold somewhere, until that is put right.
    pub struct KnownDeviation {
        /// Which expectation, `PHASE/EXPECTATION`.
        pub expectation: super::ExpectationRef,
        /// Only on this distribution; without it on each.
        pub distribution: Option<String>,
        /// Only on this channel or version of the distribution.
        pub channel: Option<String>,
        /// Why it does not hold.
        pub reason: String,
        /// The issue or passage in which that is told.
        pub reference: String,
        /// From the day after this one the deviation is a failure again.
        pub until: Option<Day>,
    }
}
