//! The node as an object of the API: what a node registers as, and its conditions. Pure but for the facts about the
//! machine, which are read once.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeSpec, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::ObjectMeta;

use super::config::KubeletConfig;
use super::status::RUNTIME;

/// What is wrong with a node without a network configuration, word for word as a kubelet puts it.
pub const NETWORK_NOT_READY: &str = "container runtime network not ready: NetworkReady=false \
                                     reason:NetworkPluginNotReady message:Network plugin returns error: cni plugin \
                                     not initialized";

/// How many pods a node takes; a kubelet's default.
const PODS: u32 = 110;

/// What is known about the machine.
#[derive(Clone, Debug)]
pub struct Machine {
    pub kernel: String,
    pub os_image: String,
    pub machine_id: String,
    pub boot_id: String,
    pub cpus: usize,
    pub memory_kib: u64,
}

impl Machine {
    /// Reads the facts; one that cannot be read is empty.
    pub fn read() -> Self {
        let text = |path: &str| std::fs::read_to_string(path).map(|text| text.trim().to_string()).unwrap_or_default();
        let memory = text("/proc/meminfo").lines().next().and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        Self {
            kernel: text("/proc/sys/kernel/osrelease"),
            os_image: pretty_name(&text("/etc/os-release")),
            machine_id: text("/etc/machine-id"),
            boot_id: text("/proc/sys/kernel/random/boot_id"),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory_kib: memory.unwrap_or(0),
        }
    }
}

fn pretty_name(os_release: &str) -> String {
    let line = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    line.unwrap_or("Linux").trim_matches('"').into()
}

/// The processor as Kubernetes calls it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The labels that the kubelet keeps on its node.
pub fn labels(config: &KubeletConfig) -> BTreeMap<String, String> {
    let own = [
        ("beta.kubernetes.io/arch", architecture()),
        ("beta.kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture()),
        ("kubernetes.io/hostname", config.node_name.as_str()),
        ("kubernetes.io/os", "linux"),
    ];
    let own = own.into_iter().map(|(key, value)| (key.to_string(), value.to_string()));
    config.labels.clone().into_iter().chain(own).collect()
}

/// The node as it registers.
pub fn registration(config: &KubeletConfig) -> Node {
    Node {
        metadata: ObjectMeta {
            name: Some(config.node_name.clone()),
            labels: Some(labels(config)),
            annotations: Some(BTreeMap::from([(
                "volumes.kubernetes.io/controller-managed-attach-detach".into(),
                "true".into(),
            )])),
            ..Default::default()
        },
        spec: Some(NodeSpec {
            taints: Some(config.taints.clone()).filter(|taints| !taints.is_empty()),
            ..Default::default()
        }),
        status: None,
    }
}

/// The whole status, with `conditions`.
pub fn status(config: &KubeletConfig, machine: &Machine, conditions: Vec<NodeCondition>) -> NodeStatus {
    let address = |type_: &str, address: String| NodeAddress { type_: type_.into(), address };
    let resources = || {
        BTreeMap::from([
            ("cpu".to_string(), Quantity(machine.cpus.to_string())),
            ("memory".to_string(), Quantity(format!("{}Ki", machine.memory_kib))),
            ("pods".to_string(), Quantity(PODS.to_string())),
        ])
    };
    NodeStatus {
        addresses: Some(vec![
            address("InternalIP", config.node_ip.to_string()),
            address("Hostname", config.node_name.clone()),
        ]),
        allocatable: Some(resources()),
        capacity: Some(resources()),
        conditions: Some(conditions),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: config.port.into() }),
        }),
        node_info: Some(NodeSystemInfo {
            architecture: architecture().into(),
            boot_id: machine.boot_id.clone(),
            container_runtime_version: format!("{RUNTIME}://{}", env!("CARGO_PKG_VERSION")),
            kernel_version: machine.kernel.clone(),
            kube_proxy_version: String::new(),
            kubelet_version: config.kubelet_version.clone(),
            machine_id: machine.machine_id.clone(),
            operating_system: "linux".into(),
            os_image: machine.os_image.clone(),
            system_uuid: machine.machine_id.clone(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The conditions of the node while its network is as `readiness` says. `told` are those the API has; an unchanged
/// one keeps its transition time.
pub fn conditions(readiness: &Result<PathBuf, String>, told: &[NodeCondition], now: Timestamp) -> Vec<NodeCondition> {
    let ready = match readiness {
        Ok(_) => ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
        Err(_) => ("Ready", "False", "KubeletNotReady", NETWORK_NOT_READY),
    };
    [
        ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ready,
    ]
    .into_iter()
    .map(|(kind, status, reason, message)| {
        let unchanged = told.iter().find(|condition| condition.type_ == kind && condition.status == status);
        NodeCondition {
            type_: kind.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_heartbeat_time: Some(Time(now)),
            last_transition_time: unchanged.and_then(|known| known.last_transition_time.clone()).or(Some(Time(now))),
        }
    })
    .collect()
}

/// Whether `told` says the same as `wanted`, whenever it was said.
pub fn is_told(wanted: &[NodeCondition], told: &[NodeCondition]) -> bool {
    wanted.iter().all(|wanted| {
        told.iter().any(|told| {
            (&told.type_, &told.status, &told.reason, &told.message)
                == (&wanted.type_, &wanted.status, &wanted.reason, &wanted.message)
        })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_node_is_ready_exactly_while_there_is_a_network_configuration() {
        let absent = conditions(&Err("none".into()), &[], at(1));
        let ready = absent.iter().find(|condition| condition.type_ == "Ready").unwrap();
        assert_eq!(ready.status, "False");
        let recorded = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady \
                        message:Network plugin returns error: cni plugin not initialized";
        assert_eq!(ready.message.as_deref(), Some(recorded));

        let present = conditions(&Ok("/etc/cni/net.d/10-calico.conflist".into()), &absent, at(5));
        let ready = present.iter().find(|condition| condition.type_ == "Ready").unwrap();
        assert_eq!((ready.status.as_str(), ready.reason.as_deref()), ("True", Some("KubeletReady")));
        assert_eq!(ready.last_transition_time, Some(Time(at(5))));
        assert_eq!(present[0].last_transition_time, Some(Time(at(1))));
        assert!(!is_told(&present, &absent));
        assert!(is_told(&present, &conditions(&Ok("x".into()), &absent, at(9))));
    }

    #[test]
    fn the_name_of_the_system_is_read() {
        assert_eq!(
            pretty_name("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"),
            "Debian GNU/Linux 12 (bookworm)"
        );
        assert_eq!(pretty_name(""), "Linux");
    }
}
