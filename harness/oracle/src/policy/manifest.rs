//! A NetworkPolicy as it is written. Owns the wire shape; must not know which of it is valid.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::snapshot::Metadata;

/// A NetworkPolicy in its wire shape, not yet checked.
#[derive(Debug, Clone, Deserialize)]
pub struct Manifest {
    pub(super) metadata: Metadata,
    #[serde(default)]
    pub(super) spec: Spec,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    #[serde(default)]
    pub pod_selector: WrittenSelector,
    pub policy_types: Option<Vec<String>>,
    pub ingress: Option<Vec<WrittenIngress>>,
    pub egress: Option<Vec<WrittenEgress>>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct WrittenIngress {
    pub from: Option<Vec<WrittenPeer>>,
    pub ports: Option<Vec<WrittenPort>>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct WrittenEgress {
    pub to: Option<Vec<WrittenPeer>>,
    pub ports: Option<Vec<WrittenPort>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WrittenPeer {
    pub pod_selector: Option<WrittenSelector>,
    pub namespace_selector: Option<WrittenSelector>,
    pub ip_block: Option<WrittenBlock>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct WrittenBlock {
    pub cidr: String,
    pub except: Option<Vec<String>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WrittenPort {
    pub protocol: Option<String>,
    pub port: Option<NumberOrName>,
    pub end_port: Option<i64>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum NumberOrName {
    Number(i64),
    Name(String),
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WrittenSelector {
    pub match_labels: Option<BTreeMap<String, String>>,
    pub match_expressions: Option<Vec<WrittenExpression>>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct WrittenExpression {
    pub key: String,
    pub operator: String,
    pub values: Option<Vec<String>>,
}
