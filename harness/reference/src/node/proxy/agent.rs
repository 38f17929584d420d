//! The loop of the service proxy: follow Services and EndpointSlices, and keep the kernel's table in line.

use std::net::Ipv4Addr;
use std::time::Duration;

use cknet_kernel::nft::{Nft, NftError};
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use kube::api::Api;
use kube::runtime::{reflector, watcher};

use super::{NodeView, Programmer, compile, service_ports};
use crate::control_plane::log;
use crate::watched::{Bell, follow};

/// How long to wait before trying again what the kernel refused.
const RETRY: Duration = Duration::from_millis(500);

/// The proxy cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    #[error(transparent)]
    Kernel(#[from] NftError),
    #[error("the watches of the API server ended: {0}")]
    Watches(#[from] reflector::store::WriterDropped),
}

/// Keeps the services of the node in the network namespace of the calling process, for ever.
pub async fn run(client: Client, node: String, address: Ipv4Addr, pod_cidr: Ipv4Net) -> Result<(), ProxyError> {
    let bell = Bell::default();
    let services = follow(Api::<Service>::all(client.clone()), watcher::Config::default(), &bell);
    let slices = follow(Api::<EndpointSlice>::all(client), watcher::Config::default(), &bell);
    let view = NodeView { name: node, node_port_ips: vec![address.into()], pod_cidr: Some(pod_cidr.into()), v4: true };
    let mut programmer = Programmer::new(Nft::open()?);
    tokio::try_join!(services.wait_until_ready(), slices.wait_until_ready())?;
    loop {
        let (all_services, all_slices) = (services.state(), slices.state());
        let ports = service_ports(all_services.iter().map(AsRef::as_ref), all_slices.iter().map(AsRef::as_ref));
        let refused = programmer.apply(&compile(&ports, &view)).err();
        if let Some(error) = &refused {
            log("kube-proxy", &error.to_string());
        }
        tokio::select! {
            () = bell.rung() => {}
            () = tokio::time::sleep(RETRY), if refused.is_some() => {}
        }
    }
}
