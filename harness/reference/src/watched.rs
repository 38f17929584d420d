//! List+watch of one kind of object into memory: the only way a component of the cluster learns about the world.
//!
//! Components are level-triggered: every change of any watched kind rings one [`Bell`], and whoever waits for it
//! looks at the whole state again. Nothing here decides anything.

use std::fmt::Debug;
use std::hash::Hash;
use std::path::Path;
use std::sync::Arc;

use futures::StreamExt;
use kube::Client;
use kube::api::Api;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::reflector::{Store, store};
use kube::runtime::{WatchStreamExt, watcher};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

/// Rung at every change; several rings before a wait are one.
#[derive(Clone, Debug, Default)]
pub struct Bell(Arc<Notify>);

impl Bell {
    pub fn ring(&self) {
        self.0.notify_one();
    }

    /// Waits until something rang since the last wait.
    pub async fn rung(&self) {
        self.0.notified().await;
    }
}

/// Starts to follow all objects of `api` that `config` selects; the task lives as long as the runtime.
///
/// The store is empty until the first list has arrived: await [`Store::wait_until_ready`] before trusting it.
pub fn follow<K>(api: Api<K>, config: watcher::Config, bell: &Bell) -> Store<K>
where
    K: kube::Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Default + Eq + Hash + Clone + Send + Sync,
{
    let (reader, writer) = store();
    let bell = bell.clone();
    tokio::spawn(async move {
        watcher(api, config)
            .default_backoff()
            .reflect(writer)
            .for_each(|_| {
                bell.ring();
                std::future::ready(())
            })
            .await;
    });
    reader
}

/// A client with the identity and the server that the kubeconfig file at `path` names.
pub async fn client_from(path: &Path) -> Result<Client, ClientError> {
    let problem =
        |cause: Box<dyn std::error::Error + Send + Sync>| ClientError { path: path.display().to_string(), cause };
    let kubeconfig = Kubeconfig::read_from(path).map_err(|cause| problem(cause.into()))?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(|cause| problem(cause.into()))?;
    Client::try_from(config).map_err(|cause| problem(cause.into()))
}

/// No client could be made of a kubeconfig file.
#[derive(Debug, thiserror::Error)]
#[error("cannot use kubeconfig `{path}`: {cause}")]
pub struct ClientError {
    path: String,
    cause: Box<dyn std::error::Error + Send + Sync>,
}
