//! The objects of cluster DNS: `dns.yaml` and `Corefile` with the cluster's values.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use serde_json::Value;

use super::{AddonError, AddonSpec, documents, fill};

const FILE: &str = "dns.yaml";

pub(super) fn objects(spec: &AddonSpec) -> Result<Vec<Value>, AddonError> {
    let address = spec.dns_address()?.to_string();
    let mut objects = documents(FILE, include_str!("dns.yaml"))?;
    fill(FILE, &mut objects, "ConfigMap", |config: &mut ConfigMap| {
        let corefile = include_str!("Corefile").replace("@DOMAIN@", &spec.cluster_domain);
        config.data.get_or_insert_default().insert("Corefile".to_owned(), corefile);
    })?;
    fill(FILE, &mut objects, "Service", |service: &mut Service| {
        let spec = service.spec.get_or_insert_default();
        spec.cluster_ip = Some(address.clone());
        spec.cluster_ips = Some(vec![address.clone()]);
    })?;
    fill(FILE, &mut objects, "Deployment", |deployment: &mut Deployment| {
        let pod = deployment.spec.as_mut().and_then(|deployment| deployment.template.spec.as_mut());
        if let Some(container) = pod.and_then(|pod| pod.containers.first_mut()) {
            container.args = Some(vec!["--domain".to_owned(), spec.cluster_domain.clone()]);
        }
    })?;
    Ok(objects)
}
