//! Calico's objects: `calico.yaml` and `calico-resources.yaml` with the cluster's values.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, EnvVar, ExecAction, Probe};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{AddonError, AddonSpec, Encapsulation, documents, fill};

const NODE: &str = "calico.yaml";
const RESOURCES: &str = "calico-resources.yaml";

pub(super) fn objects(spec: &AddonSpec, identity: &str) -> Result<Vec<Value>, AddonError> {
    let mut node = documents(NODE, include_str!("calico.yaml"))?;
    fill(NODE, &mut node, "ConfigMap", |config: &mut ConfigMap| {
        let backend = if spec.bird { "bird" } else { "vxlan" };
        config.data.get_or_insert_default().insert("calico_backend".to_owned(), backend.to_owned());
    })?;
    fill(NODE, &mut node, "DaemonSet", |set: &mut DaemonSet| complete(set, spec))?;
    let mut resources = documents(RESOURCES, include_str!("calico-resources.yaml"))?;
    fill(RESOURCES, &mut resources, "IPPool", |pool: &mut Custom| {
        pool.spec.extend([
            ("cidr".to_owned(), json!(spec.pod_cidr.trunc())),
            ("blockSize".to_owned(), json!(spec.block_size)),
            ("vxlanMode".to_owned(), json!(vxlan_mode(spec.encapsulation))),
        ]);
    })?;
    fill(RESOURCES, &mut resources, "ClusterInformation", |information: &mut Custom| {
        information.spec.insert("clusterGUID".to_owned(), json!(identity));
    })?;
    resources.extend(node);
    Ok(resources)
}

fn vxlan_mode(encapsulation: Encapsulation) -> &'static str {
    match encapsulation {
        Encapsulation::Always => "Always",
        Encapsulation::CrossSubnet => "CrossSubnet",
        Encapsulation::Never => "Never",
    }
}

fn complete(set: &mut DaemonSet, spec: &AddonSpec) {
    let template = set.spec.as_mut().and_then(|set| set.template.spec.as_mut());
    let Some(container) = template.and_then(|template| template.containers.first_mut()) else {
        return;
    };
    let variable = |name: &str, value: String| EnvVar { name: name.to_owned(), value: Some(value), value_from: None };
    let env = container.env.get_or_insert_default();
    env.push(variable("CALICO_IPV4POOL_CIDR", spec.pod_cidr.trunc().to_string()));
    env.push(variable("CALICO_IPV4POOL_BLOCK_SIZE", spec.block_size.to_string()));
    env.push(variable("CALICO_IPV4POOL_VXLAN", vxlan_mode(spec.encapsulation).to_owned()));
    if spec.bird {
        container.readiness_probe = Some(with_bird(container.readiness_probe.take().unwrap_or_default()));
    }
    let env = container.env.get_or_insert_default();
    if let Some(method) = &spec.autodetection {
        env.push(variable("IP_AUTODETECTION_METHOD", method.clone()));
    }
}

/// As upstream's calico.yaml has it: a node whose sessions do not stand is not ready.
fn with_bird(probe: Probe) -> Probe {
    let command = ["cknet", "calico-node", "-bird-ready", "-felix-ready"].map(str::to_owned).to_vec();
    Probe { http_get: None, exec: Some(ExecAction { command: Some(command) }), ..probe }
}

/// An object of one of Calico's own kinds.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Custom {
    api_version: String,
    kind: String,
    metadata: Map<String, Value>,
    spec: Map<String, Value>,
}
