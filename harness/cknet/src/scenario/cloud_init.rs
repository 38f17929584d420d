//! Owns what the provider's `cluster:` block of cloud-init says about a cluster's network, read from a document as it
//! stands there. Must not know scenarios.
//!
//! Of the bootstrap configuration in `config`, `pod-cidr` and `service-cidr` mean something to the network. Whatever
//! else is there is left to itself: provider-canonical hands on what it knows and drops the rest without a word.

use super::outline::CodeBlock;
use super::tree::{self, Node, Value};

/// What a block says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct CloudInit {
    pub pod_cidr: Option<String>,
    pub service_cidr: Option<String>,
}

impl CloudInit {
    /// Reads the first block below the heading that has a `cluster:`.
    ///
    /// # Errors
    /// There is none, or its `config` is not a mapping.
    pub fn below(blocks: &[CodeBlock], anchor: &str) -> Result<Self, String> {
        let mut below = blocks.iter().filter(|block| block.anchor == anchor && block.language == "yaml");
        let cluster = below.find_map(|block| parse(&block.text).ok()??.get("cluster").cloned());
        Self::of(&cluster.ok_or("no block of cloud-init with `cluster:` stands there in the document")?)
    }

    fn of(cluster: &Node) -> Result<Self, String> {
        let Some(config) = cluster.get("config") else { return Ok(Self::default()) };
        let text = config.text().ok_or("`config` is not a text")?;
        let Some(config) = parse(text)? else { return Ok(Self::default()) };
        if !matches!(config.value, Value::Map(_)) {
            return Err("`config` is not the YAML of a mapping".into());
        }
        let value = |key: &str| config.get(key).and_then(Node::text).map(str::to_owned);
        Ok(Self { pod_cidr: value("pod-cidr"), service_cidr: value("service-cidr") })
    }

    /// The keys and values of a scenario's `cluster` that mean the same.
    pub fn keys(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let keys = [("podCidr", &self.pod_cidr), ("serviceCidr", &self.service_cidr)];
        keys.into_iter().filter_map(|(key, value)| Some((key, value.as_deref()?)))
    }
}

/// The one document of a text; none where only comments stand.
fn parse(text: &str) -> Result<Option<Node>, String> {
    let mut problems = Vec::new();
    let tree = tree::parse_one(text, &mut problems).filter(|tree| !tree.is_null());
    if problems.is_empty() { Ok(tree) } else { Err("it is not YAML as it is read here".into()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rstest::rstest;

    fn read(text: &str) -> Result<CloudInit, String> {
        let block = CodeBlock { anchor: "here".into(), language: "yaml".into(), text: text.into() };
        CloudInit::below(&[block], "here")
    }

    #[rstest]
    #[case::defaults("#cloud-config\ncluster:\n  role: init\n  # pod-cidr: 10.1.0.0/16\n", None, None)]
    #[case::both(
        "cluster:\n  role: init\n  config: |\n    pod-cidr: 10.100.0.0/16\n    service-cidr: 10.200.0.0/16\n",
        Some("10.100.0.0/16"),
        Some("10.200.0.0/16")
    )]
    #[case::one("cluster:\n  config: |\n    service-cidr: 10.200.0.0/16\n", None, Some("10.200.0.0/16"))]
    #[case::what_nobody_knows("cluster:\n  config: |\n    # Specify\n    calico-interface: eth1\n", None, None)]
    #[case::only_comments("cluster:\n  config: |\n    # nothing\n", None, None)]
    fn blocks_are_read(#[case] text: &str, #[case] pod: Option<&str>, #[case] service: Option<&str>) {
        let wanted = CloudInit { pod_cidr: pod.map(Into::into), service_cidr: service.map(Into::into) };
        assert_eq!(read(text), Ok(wanted));
    }

    #[rstest]
    #[case("spec:\n  cidr: 10.100.0.0/16\n")]
    #[case("cluster:\n  config: |\n    - pod-cidr\n")]
    #[case("cluster:\n  config: {pod-cidr: 10.100.0.0/16}\n")]
    fn others_are_not(#[case] text: &str) {
        read(text).unwrap_err();
    }
}
