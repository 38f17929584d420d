//! The pods that a service means, with the ports it means on each of them. Pure.

use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Resource;

use crate::controllers::matching::{Labels, contains};
use crate::controllers::pod_state::{is_finished, is_ready, node_of};
use crate::controllers::world::{is_deleting, name_of};

/// A port of a service as it is on one pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) protocol: String,
    pub(super) port: i32,
    pub(super) app_protocol: Option<String>,
}

/// A pod behind a service.
pub(super) struct Member<'a> {
    pub(super) pod: &'a Pod,
    pub(super) address: &'a str,
    pub(super) ports: Vec<Port>,
    /// Gets new connections.
    pub(super) ready: bool,
    /// Could still answer, also on its way out.
    pub(super) serving: bool,
    pub(super) terminating: bool,
    pub(super) hostname: Option<String>,
}

impl Member<'_> {
    pub(super) fn node(&self) -> Option<String> {
        node_of(self.pod).map(str::to_owned)
    }

    pub(super) fn target(&self) -> ObjectReference {
        ObjectReference {
            kind: Some("Pod".to_owned()),
            name: self.pod.meta().name.clone(),
            namespace: self.pod.meta().namespace.clone(),
            uid: self.pod.meta().uid.clone(),
            ..Default::default()
        }
    }
}

/// The selector of `service`, if its endpoints are ours to find.
pub(super) fn selector(service: &Service) -> Option<&Labels> {
    let spec = service.spec.as_ref()?;
    let selector = spec.selector.as_ref().filter(|selector| !selector.is_empty())?;
    (spec.type_.as_deref() != Some("ExternalName")).then_some(selector)
}

pub(super) fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

pub(super) fn publishes_unready(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses) == Some(true)
}

/// Who is behind `service`, by address.
pub(super) fn members<'a>(service: &Service, selector: &Labels, pods: &[&'a Pod]) -> Vec<Member<'a>> {
    let none = Labels::new();
    let is_meant =
        |pod: &&&Pod| contains(selector.iter(), pod.metadata.labels.as_ref().unwrap_or(&none)) && !is_finished(pod);
    let mut members: Vec<_> = pods.iter().filter(is_meant).filter_map(|pod| member(service, pod)).collect();
    members.sort_by_key(|member| member.address.parse::<std::net::IpAddr>().ok());
    members
}

fn member<'a>(service: &Service, pod: &'a Pod) -> Option<Member<'a>> {
    let address = pod.status.as_ref()?.pod_ip.as_deref().filter(|address| !address.is_empty())?;
    let (terminating, unready_too) = (is_deleting(pod), publishes_unready(service));
    let serving = unready_too || is_ready(pod);
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    Some(Member {
        pod,
        address,
        ports: ports.filter_map(|port| on_pod(port, pod)).collect(),
        ready: serving && (!terminating || unready_too),
        serving,
        terminating,
        hostname: hostname(service, pod),
    })
}

/// Where `port` of a service leads on `pod`: a name leads to the container port of that name, if there is one.
fn on_pod(port: &ServicePort, pod: &Pod) -> Option<Port> {
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let number = match &port.target_port {
        None => port.port,
        Some(IntOrString::Int(0)) => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => named_port(pod, name, protocol)?,
    };
    Some(Port {
        name: port.name.clone().unwrap_or_default(),
        protocol: protocol.to_owned(),
        port: number,
        app_protocol: port.app_protocol.clone(),
    })
}

fn named_port(pod: &Pod, name: &str, protocol: &str) -> Option<i32> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    let found = ports
        .find(|port| port.name.as_deref() == Some(name) && port.protocol.as_deref().unwrap_or("TCP") == protocol)?;
    Some(found.container_port)
}

/// A pod that names `service` as its subdomain has a name of its own there.
fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let is_here = spec.subdomain.as_deref() == Some(name_of(service));
    spec.hostname.clone().filter(|hostname| is_here && !hostname.is_empty())
}
