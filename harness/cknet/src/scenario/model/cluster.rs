//! Owns what a scenario says about the cluster as a whole.
//! Must not know nodes, pods and distributions.

use std::fmt;

use super::super::cloud_init::CloudInit;
use super::super::read::{FromText, Read, Reading, record, text, words};
use super::super::source::Span;
use super::super::tree::{Entry, Node as TreeNode, Style, Value};
use super::{Address, Cidr, Citation};

record! {
    "`cluster`";
    /// How the cluster is set up.
    pub struct Cluster {
        /// Whose documented set-up it has; `canonical` unless given. What a verdict on another one says, it says of a
        /// model of that product.
        #[schemars(default)]
        pub flavour: Flavour = Flavour::default(),
        /// The block from which pods get addresses; 10.1.0.0/16 unless given.
        #[schemars(default = "default_pod_cidr")]
        pub pod_cidr: Cidr = default_pod_cidr(),
        /// The block from which services get virtual addresses; 10.152.183.0/24 unless given.
        #[schemars(default = "default_service_cidr")]
        pub service_cidr: Cidr = default_service_cidr(),
        /// How a packet for a pod on another node travels.
        #[schemars(default)]
        pub encapsulation: Encapsulation = Encapsulation::default(),
        /// What carries packets between nodes; `bird` if `encapsulation` is `none`, else `vxlan`, unless given.
        pub backend: Option<Backend>,
        /// Prefix length of the blocks of pod addresses that a node takes; 26 unless given.
        #[schemars(default = "default_block_size")]
        pub block_size: BlockSize = default_block_size(),
        /// How a node chooses the address by which the others reach it.
        #[schemars(default)]
        pub node_address: NodeAddress = NodeAddress::default(),
        /// A passage of a document with the provider's `cluster:` block of cloud-init, from which `podCidr` and
        /// `serviceCidr` are taken; what is given beside it counts more.
        pub cloud_init: Option<Citation>,
    }
}

impl Cluster {
    /// Reads a cluster with what its `cloudInit` says in the document, and with the addresses that a cluster has which
    /// is there already.
    pub(in crate::scenario) fn read_whole(node: &TreeNode, r: &mut Reading<'_>) -> Option<Self> {
        let there: Vec<(&str, String)> = match r.premises.map(|premises| &premises.cluster) {
            Some(own) => vec![
                ("podCidr", own.pod_cidr.to_string()),
                ("serviceCidr", own.service_cidr.to_string()),
                ("blockSize", own.block_size.to_string()),
            ],
            None => Vec::new(),
        };
        let Some(cited) = node.get("cloudInit") else {
            return Self::read(&beneath(node, node.span, there), r);
        };
        let citation = Citation::read(cited, r)?;
        let blocks = r.code.get(&citation.file).map(Vec::as_slice).unwrap_or_default();
        let said = match CloudInit::below(blocks, &citation.anchor) {
            Ok(said) => said,
            Err(wrong) => {
                r.problem(cited.span, wrong);
                return None;
            }
        };
        // Problems with what stands there are told of the key that brought it here.
        let said = beneath(node, cited.span, said.keys().map(|(key, text)| (key, text.to_owned())));
        Self::read(&beneath(&said, node.span, there), r)
    }
}

/// A mapping with keys beneath it, which count where it does not have them itself.
fn beneath<'a>(node: &TreeNode, span: Span, keys: impl IntoIterator<Item = (&'a str, String)>) -> TreeNode {
    let entry = |(key, text): (&str, String)| Entry {
        key: key.to_owned(),
        key_span: span,
        value: TreeNode { span, value: Value::Scalar { text, style: Style::Quoted } },
    };
    let base = TreeNode { span: node.span, value: Value::Map(keys.into_iter().map(entry).collect()) };
    base.merged(node)
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            flavour: Flavour::default(),
            pod_cidr: default_pod_cidr(),
            service_cidr: default_service_cidr(),
            encapsulation: Encapsulation::default(),
            backend: None,
            block_size: default_block_size(),
            node_address: NodeAddress::default(),
            cloud_init: None,
        }
    }
}

impl Cluster {
    /// What carries packets between nodes, given or not.
    #[must_use]
    pub fn backend(&self) -> Backend {
        let usual = if self.encapsulation == Encapsulation::None { Backend::Bird } else { Backend::Vxlan };
        self.backend.unwrap_or(usual)
    }
}

/// What the document names as the default of `pod-cidr`.
fn default_pod_cidr() -> Cidr {
    known("10.1.0.0/16")
}

/// What the document names as the default of `service-cidr`.
fn default_service_cidr() -> Cidr {
    known("10.152.183.0/24")
}

/// Calico's own default.
fn default_block_size() -> BlockSize {
    BlockSize(26)
}

fn known(text: &str) -> Cidr {
    Cidr::from_text(text).unwrap_or_else(|wrong| unreachable!("{wrong}"))
}

words! {
    "a flavour";
    /// Whose documented set-up a cluster has, as far as its network is concerned.
    #[derive(Default)]
    pub enum Flavour {
        /// Canonical Kubernetes as the document describes it, with Calico.
        #[default]
        Canonical = "canonical",
        /// kubeadm: no CNI until one is installed.
        Kubeadm = "kubeadm",
        /// K3s: flannel in the node's own process.
        K3s = "k3s",
        /// RKE2: Canal, which is flannel for packets and Calico for policy.
        Rke2 = "rke2",
    }
}

words! {
    "an encapsulation";
    /// How a packet for a pod on another node travels.
    #[derive(Default)]
    pub enum Encapsulation {
        /// Always in VXLAN.
        #[default]
        Vxlan = "vxlan",
        /// In VXLAN between nodes of different subnets, as it is inside of one.
        VxlanCrossSubnet = "vxlanCrossSubnet",
        /// As it is; routes have to be announced, for example by BGP.
        None = "none",
    }
}

words! {
    "a backend";
    /// What carries packets between nodes: Calico's `calico_backend`.
    pub enum Backend {
        /// Felix alone.
        Vxlan = "vxlan",
        /// A BIRD on each node, which exchanges routes over BGP.
        Bird = "bird",
    }
}

/// Prefix length of a block of pod addresses, 20 to 32.
#[derive(serde::Serialize, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockSize(u8);

impl BlockSize {
    /// Of a prefix length from 20 to 32.
    #[must_use]
    pub fn of(prefix_len: u8) -> Option<Self> {
        (20..=32).contains(&prefix_len).then_some(Self(prefix_len))
    }

    /// The prefix length.
    #[must_use]
    pub const fn prefix_len(self) -> u8 {
        self.0
    }
}

impl fmt::Display for BlockSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromText for BlockSize {
    const WANTED: &'static str = "a prefix length from 20 to 32";
    fn from_text(text: &str) -> Result<Self, String> {
        text.parse()
            .ok()
            .filter(|size| (20..=32).contains(size))
            .map(Self)
            .ok_or_else(|| format!("`{text}` is not {}", Self::WANTED))
    }
}

impl Read for BlockSize {
    fn read(node: &TreeNode, r: &mut Reading<'_>) -> Option<Self> {
        super::super::read::read_text(node, r)
    }
}

impl schemars::JsonSchema for BlockSize {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "BlockSize".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "integer", "minimum": 20, "maximum": 32 })
    }
}

/// How a node chooses the address by which the others reach it, in Calico's words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum NodeAddress {
    /// `firstFound`: the first usable address of the first usable interface.
    #[default]
    FirstFound,
    /// `kubernetesInternalIp`: the node's InternalIP in the Kubernetes API.
    KubernetesInternalIp,
    /// `interface=REGEX`: of an interface whose name matches.
    Interface(String),
    /// `skipInterface=REGEX`: of the first interface whose name does not match.
    SkipInterface(String),
    /// `canReach=ADDRESS`: from which the kernel would send to that address.
    CanReach(Address),
    /// `cidr=CIDR`: inside of that block.
    Cidr(Cidr),
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FirstFound => f.write_str("firstFound"),
            Self::KubernetesInternalIp => f.write_str("kubernetesInternalIp"),
            Self::Interface(pattern) => write!(f, "interface={pattern}"),
            Self::SkipInterface(pattern) => write!(f, "skipInterface={pattern}"),
            Self::CanReach(address) => write!(f, "canReach={address}"),
            Self::Cidr(cidr) => write!(f, "cidr={cidr}"),
        }
    }
}

impl NodeAddress {
    /// The value of Calico's `IP_AUTODETECTION_METHOD`.
    #[must_use]
    pub fn autodetection_method(&self) -> String {
        match self {
            Self::FirstFound => "first-found".to_owned(),
            Self::KubernetesInternalIp => "kubernetes-internal-ip".to_owned(),
            Self::Interface(pattern) => format!("interface={pattern}"),
            Self::SkipInterface(pattern) => format!("skip-interface={pattern}"),
            Self::CanReach(address) => format!("can-reach={address}"),
            Self::Cidr(cidr) => format!("cidr={cidr}"),
        }
    }
}

text!(NodeAddress, "NodeAddress",
"`firstFound`, `kubernetesInternalIp`, `interface=REGEX`, `skipInterface=REGEX`, `canReach=ADDRESS` or `cidr=CIDR`",
pattern r"^(firstFound|kubernetesInternalIp|(interface|skipInterface|canReach|cidr)=.+)$",
parse |text: &str| match text.split_once('=') {
    None if text == "firstFound" => Ok(Self::FirstFound),
    None if text == "kubernetesInternalIp" => Ok(Self::KubernetesInternalIp),
    Some(("interface", pattern)) if !pattern.is_empty() => Ok(Self::Interface(pattern.to_owned())),
    Some(("skipInterface", pattern)) if !pattern.is_empty() => Ok(Self::SkipInterface(pattern.to_owned())),
    Some(("canReach", address)) => Address::from_text(address).map(Self::CanReach),
    Some(("cidr", cidr)) => Cidr::from_text(cidr).map(Self::Cidr),
    _ => Err(format!("`{text}` is not a way to choose an address; use {}", Self::WANTED)),
});
