//! Owns what is changed of workloads.

use super::super::{LabelKey, Labels, Named, Workload, WorkloadName};
use crate::scenario::read::{Keys, Read, Reading, record};
use crate::scenario::tree::Node as TreeNode;

record! {
    "a change of labels";
    /// A change of a workload's labels.
    pub struct Relabel {
        /// The workload.
        pub workload: WorkloadName,
        /// The labels that are set.
        #[schemars(default)]
        pub set: Labels = Default::default(),
        /// The keys of the labels that are removed.
        #[schemars(default)]
        pub remove: Vec<LabelKey> = Default::default(),
    }
}

/// Workloads that come or go while the scenario runs.
#[derive(Debug, Clone, PartialEq, Eq, schemars::JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadChange {
    /// Workloads that are started.
    #[schemars(default)]
    pub add: Named<WorkloadName, Workload>,
    /// Workloads that are removed at once.
    #[schemars(default)]
    pub remove: Vec<WorkloadName>,
    /// Workloads that are told to end and are not waited for; they have `linger`.
    #[schemars(default)]
    pub terminate: Vec<WorkloadName>,
}

impl Read for WorkloadChange {
    fn read(node: &TreeNode, r: &mut Reading<'_>) -> Option<Self> {
        let mut keys = Keys::of(node, "a change of workloads", r)?;
        let add: Option<Named<_, _>> = keys.field_or("add", Named::default, r);
        let remove: Option<Vec<_>> = keys.field_or("remove", Vec::new, r);
        let terminate: Option<Vec<_>> = keys.field_or("terminate", Vec::new, r);
        keys.done(&[], r);
        let change = Self { add: add?, remove: remove?, terminate: terminate? };
        if change.add.is_empty() && change.remove.is_empty() && change.terminate.is_empty() {
            r.problem(node.point(), "a change of workloads has `add`, `remove` or `terminate`");
            return None;
        }
        Some(change)
    }
}
