//! Contrast clusters from public images: K3s itself, and kubeadm as kind's node image has it.
//!
//! The images are not the project's and may be neither here nor within reach; then the trials are ignored.

use std::net::IpAddr;
use std::time::Duration;

use cknet_contrast::{FLANNEL_PORT, Readiness, flannel_backend, lacks_cni, listens, readiness};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use libtest_mimic::Trial;
use testcontainers::core::{CgroupnsMode, Mount};
use testcontainers::runners::AsyncRunner;
use testcontainers::{GenericImage, ImageExt};

use crate::engine::{self, Container, NETWORK, Need, address, done, shell, until};

/// Longest time for a pull and a cluster, and for a cluster alone.
const DEADLINE: Duration = Duration::from_secs(600);
const CLUSTER: Duration = Duration::from_secs(240);
/// A node that has no CNI has to stay so for this long.
const STAYS: Duration = Duration::from_secs(20);

/// The image to take, which `CKNET_K3S_IMAGE` and `CKNET_KIND_IMAGE` may change.
fn k3s_image() -> String {
    std::env::var("CKNET_K3S_IMAGE").unwrap_or_else(|_| "rancher/k3s:v1.33.5-k3s1".into())
}

fn kind_image() -> String {
    std::env::var("CKNET_KIND_IMAGE").unwrap_or_else(|_| "kindest/node:v1.33.4".into())
}

pub fn trials() -> Vec<Trial> {
    let need = |image, word| Need::Public { image, word, deadline: DEADLINE };
    vec![
        engine::trial("clusters::k3s_is_ready_with_flannel", need(k3s_image, "k3s"), k3s),
        engine::trial("clusters::kubeadm_waits_for_a_cni", need(kind_image, "kind"), kubeadm),
    ]
}

/// Both images run their kubelet in the container, which wants all rights of the machine.
async fn start(image: &str, arguments: &[&str]) -> Container {
    let (name, tag) = image.rsplit_once(':').expect("a tag");
    let request = GenericImage::new(name, tag).with_cmd(arguments.iter().copied());
    let request = request
        .with_network(NETWORK)
        .with_privileged(true)
        .with_cgroupns_mode(CgroupnsMode::Private)
        .with_mount(Mount::tmpfs_mount("/run"))
        .with_mount(Mount::tmpfs_mount("/tmp"))
        .with_mount(Mount::volume_mount("", "/var"))
        .with_startup_timeout(DEADLINE);
    request.start().await.unwrap_or_else(|error| panic!("start `{image}`: {error}"))
}

/// A client by the kubeconfig in a file of the container, sent to the container's address.
async fn client(container: &Container, file: &str) -> Client {
    until(&format!("`{file}` is written"), CLUSTER, async || {
        match shell(container, &format!("test -s {file}")).await {
            (0, _) => Ok(()),
            (code, text) => Err(format!("exit code {code} {text}")),
        }
    })
    .await;
    let mut kubeconfig = Kubeconfig::from_yaml(&done(container, &format!("cat {file}")).await).expect("a kubeconfig");
    direct(&mut kubeconfig, address(container).await);
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    Client::try_from(config.expect("a configuration")).expect("a client")
}

/// The servers may be known by names or addresses of the container alone.
fn direct(kubeconfig: &mut Kubeconfig, to: IpAddr) {
    for cluster in kubeconfig.clusters.iter_mut().filter_map(|named| named.cluster.as_mut()) {
        cluster.server = Some(format!("https://{to}:6443"));
    }
}

/// The only node, once what its kubelet says is as wanted.
async fn node_that(client: &Client, what: &str, wanted: impl Fn(&Readiness) -> bool) -> Node {
    let nodes: Api<Node> = Api::all(client.clone());
    let mut found = None;
    until(what, CLUSTER, async || {
        let list = nodes.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let node = list.items.into_iter().next().ok_or("no node")?;
        let state = readiness(&node);
        if !wanted(&state) {
            return Err(format!("{state:?}"));
        }
        found = Some(node);
        Ok(())
    })
    .await;
    found.expect("a node")
}

/// `K3s: Includes Flannel CNI by default`: nothing is installed, and the node is Ready, with flannel's VXLAN at 8472 and
/// no DaemonSet of a CNI.
async fn k3s() {
    let container = start(&k3s_image(), &["server", "--disable=traefik,metrics-server"]).await;
    let client = client(&container, "/etc/rancher/k3s/k3s.yaml").await;
    let node = node_that(&client, "K3s's node is Ready", |state| *state == Readiness::Ready).await;
    assert_eq!(flannel_backend(&node), Some("vxlan"));
    until("flannel listens", CLUSTER, async || {
        let sockets = done(&container, "cat /proc/net/udp").await;
        if listens(&sockets, FLANNEL_PORT) { Ok(()) } else { Err(sockets) }
    })
    .await;
    assert!(!listens(&done(&container, "cat /proc/net/udp").await, 4789), "that is Calico's port");
    done(&container, "test -d /sys/class/net/flannel.1").await;
    let sets = Api::<DaemonSet>::all(client).list(&ListParams::default()).await.expect("DaemonSets");
    let names: Vec<_> = sets.items.iter().filter_map(|set| set.metadata.name.as_deref()).collect();
    assert!(!names.iter().any(|name| name.contains("flannel") || name.contains("calico")), "{names:?}");
}

/// `kubeadm: NO CNI included - manual installation required`: the node is not Ready for lack of one, and stays so.
async fn kubeadm() {
    let container = start(&kind_image(), &[]).await;
    until("containerd answers", CLUSTER, async || match shell(&container, "crictl info >/dev/null 2>&1").await {
        (0, _) => Ok(()),
        (code, _) => Err(format!("crictl ends with {code}")),
    })
    .await;
    // The checks before are for machines; the settings of the kubelet are those that kind has for containers.
    let config = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\nskipPhases: [preflight]\n---\n\
                  apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nfailSwapOn: false\n\
                  cgroupDriver: systemd\ncgroupRoot: /kubelet\nimageGCHighThresholdPercent: 100\n\
                  evictionHard: {nodefs.available: 0%, nodefs.inodesFree: 0%, imagefs.available: 0%}\n";
    engine::put(&container, "/kind/cknet.yaml", config).await;
    done(&container, "kubeadm init --config /kind/cknet.yaml").await;
    let client = client(&container, "/etc/kubernetes/admin.conf").await;
    let waits = |state: &Readiness| matches!(state, Readiness::NotReady(words) if lacks_cni(words));
    node_that(&client, "the node says that it has no CNI", waits).await;
    let nodes: Api<Node> = Api::all(client);
    let begun = tokio::time::Instant::now();
    until("the time is over in which the node has to stay so", STAYS * 2, async || {
        let list = nodes.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        assert!(list.items.iter().all(|node| waits(&readiness(node))), "a node became ready without a CNI");
        if begun.elapsed() >= STAYS { Ok(()) } else { Err("the node has no CNI".into()) }
    })
    .await;
}
