//! Canal's objects: `canal.yaml` with the cluster's network.

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};

use super::{AddonError, AddonSpec, documents, fill};

const FILE: &str = "canal.yaml";

pub(super) fn objects(spec: &AddonSpec) -> Result<Vec<Value>, AddonError> {
    let mut objects = documents(FILE, include_str!("canal.yaml"))?;
    fill(FILE, &mut objects, "ConfigMap", |config: &mut ConfigMap| {
        let network = json!({"Network": spec.pod_cidr.trunc(), "Backend": {"Type": "vxlan"}});
        config.data.get_or_insert_default().insert("net-conf.json".to_owned(), network.to_string());
    })?;
    Ok(objects)
}
