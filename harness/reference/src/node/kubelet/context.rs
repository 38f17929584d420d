//! What everything on one node shares: the configuration, the API, the events, the readiness of the network.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use kube::api::Api;
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use super::config::KubeletConfig;
use super::environment::{Source, Sources};
use super::events::Recorder;
use super::network::Readiness;
use super::pull::Pulled;
use super::registry::Registry;

/// How long one request to the API may take before it is tried again.
pub const API_PATIENCE: Duration = Duration::from_secs(10);

/// Shared by all pods of the node.
pub struct NodeContext {
    pub config: KubeletConfig,
    pub events: Recorder,
    pub readiness: Readiness,
    pub registry: Registry,
    pub pulled: Pulled,
    /// The kubelet stops; pods stay as they are.
    pub shutdown: CancellationToken,
    kubernetes: OnceCell<(String, i32)>,
}

impl NodeContext {
    pub fn new(
        config: KubeletConfig,
        events: Recorder,
        readiness: Readiness,
        shutdown: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            config,
            events,
            readiness,
            registry: Registry::default(),
            pulled: Pulled::default(),
            shutdown,
            kubernetes: OnceCell::new(),
        })
    }

    /// Address and port of the `kubernetes` service; `None` while the API does not know it.
    pub async fn kubernetes(&self) -> Option<(String, i32)> {
        let services: Api<Service> = Api::namespaced(self.config.client.clone(), "default");
        let found = self.kubernetes.get_or_try_init(|| async {
            let service = tokio::time::timeout(API_PATIENCE, services.get_opt("kubernetes")).await;
            let spec = service.ok().and_then(Result::ok).flatten().and_then(|service| service.spec).ok_or(())?;
            let port = spec.ports.and_then(|ports| ports.first().map(|port| port.port)).ok_or(())?;
            spec.cluster_ip.map(|address| (address, port)).ok_or(())
        });
        found.await.ok().cloned()
    }

    /// The data of those of `wanted` that exist; the error is one that may pass.
    pub async fn fetch(&self, namespace: &str, wanted: Vec<Source>) -> Result<Sources, String> {
        let maps: Api<ConfigMap> = Api::namespaced(self.config.client.clone(), namespace);
        let secrets: Api<Secret> = Api::namespaced(self.config.client.clone(), namespace);
        let mut sources = Sources::new();
        for source in wanted {
            let data = match &source {
                Source::ConfigMap(name) => {
                    maps.get_opt(name).await.map(|map| map.map(|map| map.data.unwrap_or_default()))
                }
                Source::Secret(name) => secrets.get_opt(name).await.map(|secret| {
                    let data = secret.map(|secret| secret.data.unwrap_or_default());
                    data.map(|data| {
                        data.into_iter().map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into())).collect()
                    })
                }),
            };
            if let Some(data) = data.map_err(|error| error.to_string())? {
                sources.insert(source, data);
            }
        }
        Ok(sources)
    }
}

/// An id in the form of a container runtime's: 64 hexadecimal digits, different for different `parts`.
pub fn runtime_id(parts: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part.as_bytes());
        digest.update([0]);
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
