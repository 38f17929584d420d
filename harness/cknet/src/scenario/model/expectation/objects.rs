//! Owns what is expected of the objects of a cluster, its nodes among them.
//! Must not know how they are fetched.

use crate::scenario::json::Json;
use crate::scenario::model::{NamespaceName, NodeName, Selector};
use crate::scenario::read::{Read, Reading, record, words};
use crate::scenario::tree::{Node as TreeNode, Value};

/// In which state nodes are: `{all: Ready}` or `{cp1: Ready, w1: NotReady}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStates {
    /// The state of each node that is not named.
    pub all: Option<NodeState>,
    /// The states of named nodes.
    pub named: Vec<(NodeName, NodeState)>,
}

words! {
    "a state of a node";
    /// The condition `Ready` of a node.
    pub enum NodeState {
        /// Ready.
        Ready = "Ready",
        /// Not ready, or of unknown state.
        NotReady = "NotReady",
    }
}

impl Read for NodeStates {
    fn read(node: &TreeNode, r: &mut Reading<'_>) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            r.problem(node.point(), "this wants a mapping, `{all: Ready}` or `{NODE: Ready}`");
            return None;
        };
        let mut states = Self { all: None, named: Vec::new() };
        let known = r.declared.node_names();
        for entry in entries {
            let state = NodeState::read(&entry.value, r);
            if entry.key == "all" {
                states.all = state;
            } else if !known.contains(&entry.key.as_str()) {
                r.no_such(entry.key_span, "node", &entry.key, &known);
            } else {
                states.named.extend(entry.key.parse().ok().zip(state));
            }
        }
        if entries.is_empty() {
            r.problem(node.span, "no node is given; write `all` or the names of nodes");
        }
        Some(states)
    }
}

impl schemars::JsonSchema for NodeStates {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "NodeStates".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let state = generator.subschema_for::<NodeState>();
        schemars::json_schema!({
            "description": "The state of `all` nodes, of named nodes, or both",
            "type": "object",
            "minProperties": 1,
            "additionalProperties": state,
        })
    }
}

record! {
    "`resource`";
    /// What objects of the cluster look like. At least one has to be there unless `count` says 0.
    pub struct Resource {
        /// `apiVersion` of the objects.
        pub api_version: String,
        /// `kind` of the objects.
        pub kind: String,
        /// Their namespace, if they have one.
        pub namespace: Option<NamespaceName>,
        /// The name of the one object; this, `selector`, or all objects of the kind.
        pub name: Option<String>,
        /// The labels of the objects; this, `name`, or all objects of the kind.
        pub selector: Option<Selector>,
        /// Fields by which the API can choose, like `involvedObject.name=web,reason=Killing` of events.
        pub field_selector: Option<Selector>,
        /// What each of them has, perhaps beside more: keys of mappings, items of lists in order.
        pub matches: Option<Json>,
        /// How many there are.
        pub count: Option<u16>,
    }
}
