//! A node for tests: a process in its own network, mount and UTS namespaces with an API server and a kubelet on its
//! loopback device, and a network for pods that only gives addresses.

use std::collections::HashSet;
use std::fs;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cknet_kernel::ns::NetNs;
use cknet_reference::api::pki::Authority;
use cknet_reference::api::{ApiConfig, ApiServer, ServerTls, TokenUser};
use cknet_reference::node::cni::PodSandbox;
use cknet_reference::node::kubelet::network::PodNetwork;
use cknet_reference::node::kubelet::{self, KubeletConfig, NodeIdentity};
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, DeleteParams, PostParams};
use kube::runtime::wait::await_condition;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const TOKEN: &str = "test-token";
pub const KUBELET_TOKEN: &str = "kubelet-token";
pub const DEADLINE: Duration = Duration::from_secs(20);

/// What stands in for our executable: it says how it was started and serves until SIGTERM.
const PERSONALITIES: &str = r#"#!/bin/sh
echo "started: $*"
echo "to stderr" >&2
if [ "$1" = probe ] || [ "$1" = pause ] || [ "$1" = dns ]; then
    trap 'echo stopping; exit 0' TERM
    while :; do sleep 600 & wait $!; done
fi
"#;

/// Gives addresses and keeps account of them.
#[derive(Default)]
pub struct Addresses {
    pub given: Mutex<HashSet<String>>,
    next: Mutex<u8>,
    /// Pods whose name begins so never get an answer.
    pub stuck: Mutex<Option<String>>,
    pub refused: Mutex<Option<String>>,
    folder: Mutex<PathBuf>,
}

impl PodNetwork for Addresses {
    fn readiness(&self) -> Result<PathBuf, String> {
        let mut files: Vec<PathBuf> =
            fs::read_dir(&*self.folder.lock().unwrap()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files.into_iter().next().ok_or_else(|| "no networks found".to_string())
    }

    fn add<'a>(&'a self, sandbox: PodSandbox<'a>) -> BoxFuture<'a, Result<Ipv4Addr, String>> {
        Box::pin(async move {
            let is_stuck =
                self.stuck.lock().unwrap().as_ref().is_some_and(|stuck| sandbox.name.starts_with(stuck.as_str()));
            if is_stuck {
                std::future::pending::<()>().await;
            }
            if let Some(problem) = self.refused.lock().unwrap().clone() {
                return Err(problem);
            }
            self.given.lock().unwrap().insert(sandbox.container_id.into());
            let mut next = self.next.lock().unwrap();
            *next += 1;
            Ok(Ipv4Addr::new(10, 1, 0, *next))
        })
    }

    fn delete<'a>(&'a self, sandbox: PodSandbox<'a>) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            self.given.lock().unwrap().remove(sandbox.container_id);
            Ok(())
        })
    }
}

/// A running node.
pub struct TestNode {
    pub client: Client,
    pub folder: PathBuf,
    pub kubeconfig: PathBuf,
    pub addresses: Arc<Addresses>,
    pub kubelet_port: u16,
    config: KubeletConfig,
    kubelet: Option<(CancellationToken, JoinHandle<Result<(), kubelet::KubeletError>>)>,
}

/// Set for the process that is the node.
const INSIDE: &str = "CKNET_TEST_NODE";

/// Runs `test` on a node of its own, with a network configuration in place: the test starts its own program again for
/// itself alone, in namespaces that end with it, processes included. Without the privilege to make them it says so and
/// stops, unless `CKNET_REQUIRE` names netns.
pub fn on_a_node<F>(test: impl FnOnce(TestNode) -> F)
where
    F: Future<Output = ()>,
{
    if std::env::var_os(INSIDE).is_some() {
        return be_the_node(test);
    }
    if NetNs::create().is_err() {
        let required = std::env::var("CKNET_REQUIRE").is_ok_and(|list| list.contains("netns"));
        assert!(!required, "CKNET_REQUIRE names netns, but no namespace can be made here");
        eprintln!("ignored: making namespaces needs CAP_SYS_ADMIN");
        return;
    }
    let name = std::thread::current().name().expect("a test has a name").to_string();
    // On a thread of its own, which nobody uses afterwards.
    let output = std::thread::spawn(move || {
        let own =
            CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWPID;
        unshare(own).unwrap();
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        again.args([&name, "--exact", "--nocapture", "--test-threads=1"]).env(INSIDE, "1").output().unwrap()
    });
    let output = output.join().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");
    eprintln!("{text}");
}

fn be_the_node<F>(test: impl FnOnce(TestNode) -> F)
where
    F: Future<Output = ()>,
{
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), None::<&str>).unwrap();
    let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
    assert!(up.success(), "the loopback device cannot be set up");
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let node = TestNode::start(folder.path()).await;
        test(node).await;
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    // Its pins would keep the folder busy.
    for pin in fs::read_dir(folder.path().join("netns")).unwrap() {
        cknet_kernel::sandbox::unpin(&pin.unwrap().path()).unwrap();
    }
}

impl TestNode {
    async fn start(folder: &Path) -> Self {
        let authority = Authority::create("test").unwrap();
        let issued = authority.issue("node", &["127.0.0.1".into(), "n1".into()]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let advertise = listener.local_addr().unwrap();
        let server = ApiServer::new(ApiConfig {
            listeners: vec![listener],
            tls: ServerTls {
                ca_pem: authority.ca_pem().into(),
                cert_pem: issued.cert_pem.clone(),
                key_pem: issued.key_pem.clone(),
            },
            tokens: vec![TokenUser {
                token: TOKEN.into(),
                user: "admin".into(),
                groups: vec!["system:masters".into()],
            }],
            service_cidr: "10.152.183.0/24".parse().unwrap(),
            kubelet_token: KUBELET_TOKEN.into(),
            advertise,
        })
        .unwrap();
        tokio::spawn(server.serve(CancellationToken::new()));
        let kubeconfig = folder.join("kubeconfig");
        fs::write(folder.join("ca.pem"), authority.ca_pem()).unwrap();
        fs::write(&kubeconfig, kubeconfig_text(advertise, &folder.join("ca.pem"))).unwrap();
        let client = cknet_reference::watched::client_from(&kubeconfig).await.unwrap();

        let executable = folder.join("personalities");
        fs::write(&executable, PERSONALITIES).unwrap();
        fs::set_permissions(&executable, fs::Permissions::from_mode(0o755)).unwrap();
        let cni = folder.join("cni");
        fs::create_dir(&cni).unwrap();
        fs::write(cni.join("10-test.conflist"), "{}").unwrap();
        let addresses = Arc::new(Addresses { folder: Mutex::new(cni.clone()), ..Addresses::default() });
        let identity = NodeIdentity {
            name: "n1".into(),
            address: Ipv4Addr::LOCALHOST,
            kubelet_token: KUBELET_TOKEN.into(),
            cert_pem: issued.cert_pem,
            key_pem: issued.key_pem,
        };
        let mut config = KubeletConfig::new(identity, client.clone(), Arc::clone(&addresses) as Arc<dyn PodNetwork>);
        config.pod_root = folder.join("pods");
        config.netns_root = folder.join("netns");
        config.cni_config_dir = cni;
        config.executable = executable;
        config.labels.insert("node-role.kubernetes.io/worker".into(), String::new());
        let kubelet_port = config.port;
        let mut node =
            Self { client, folder: folder.into(), kubeconfig, addresses, kubelet_port, config, kubelet: None };
        node.start_kubelet();
        node
    }

    pub fn start_kubelet(&mut self) {
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(kubelet::run(self.config.clone(), shutdown.clone()));
        self.kubelet = Some((shutdown, task));
    }

    pub async fn stop_kubelet(&mut self) {
        let (shutdown, task) = self.kubelet.take().unwrap();
        shutdown.cancel();
        tokio::time::timeout(DEADLINE, task).await.expect("the kubelet ends").unwrap().unwrap();
    }

    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    pub fn cni_config(&self) -> PathBuf {
        self.config.cni_config_dir.join("10-test.conflist")
    }

    /// Creates a pod on the node: `spec` needs containers only.
    pub async fn create(&self, name: &str, mut spec: Value) -> Pod {
        spec["nodeName"] = json!("n1");
        spec.as_object_mut().unwrap().entry("terminationGracePeriodSeconds").or_insert(json!(5));
        let pod = json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec});
        self.pods().create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap()
    }

    /// Waits until `holds` for the pod's JSON.
    pub async fn await_pod(&self, name: &str, what: &str, holds: impl Fn(&Value) -> bool + Send + Sync) -> Value {
        let condition = |pod: Option<&Pod>| pod.is_some_and(|pod| holds(&serde_json::to_value(pod).unwrap()));
        match tokio::time::timeout(DEADLINE, await_condition(self.pods(), name, condition)).await {
            Ok(found) => serde_json::to_value(found.unwrap().unwrap()).unwrap(),
            Err(_) => {
                let last = self.pods().get_opt(name).await.unwrap();
                let last = serde_json::to_string_pretty(&last.map(|pod| pod.status)).unwrap();
                panic!("pod `{name}` is not {what} after {DEADLINE:?}; last seen:\n{last}")
            }
        }
    }

    pub async fn await_running(&self, name: &str) -> Value {
        self.await_pod(name, "ready", |pod| condition(pod, "Ready") == "True").await
    }

    pub async fn await_gone(&self, name: &str) {
        let gone = await_condition(self.pods(), name, |pod: Option<&Pod>| pod.is_none());
        tokio::time::timeout(DEADLINE, gone).await.unwrap_or_else(|_| panic!("pod `{name}` is still there")).unwrap();
    }

    pub async fn delete(&self, name: &str) {
        self.pods().delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// The reasons and sentences of all events about `name`, in the order they were written.
    pub async fn events(&self, name: &str) -> Vec<String> {
        let events: Api<k8s_openapi::api::core::v1::Event> = Api::namespaced(self.client.clone(), "default");
        let mut events: Vec<_> = events.list(&Default::default()).await.unwrap().items;
        events.retain(|event| event.involved_object.name.as_deref() == Some(name));
        events.sort_by_key(|event| event.metadata.name.clone());
        events
            .into_iter()
            .map(|event| format!("{}: {}", event.reason.unwrap_or_default(), event.message.unwrap_or_default()))
            .collect()
    }

    /// Waits until an event about `name` begins with `start`.
    pub async fn await_event(&self, name: &str, start: &str) -> String {
        eventually(&format!("an event `{start}` about `{name}`"), async || {
            self.events(name).await.into_iter().find(|event| event.starts_with(start))
        })
        .await
    }
}

/// Tries until `look` finds something.
pub async fn eventually<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, found).await.unwrap_or_else(|_| panic!("{what} did not come in {DEADLINE:?}"))
}

pub fn condition(object: &Value, kind: &str) -> String {
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.iter().find(|condition| condition["type"] == kind);
    found.and_then(|condition| condition["status"].as_str()).unwrap_or_default().into()
}

/// One container with the probing image and these fields besides.
pub fn container(fields: Value) -> Value {
    let mut container = json!({"name": "c", "image": "cknet-probe"});
    container.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json!({"containers": [container]})
}

/// A container that runs a shell script.
pub fn shell(script: &str) -> Value {
    container(json!({"command": ["/bin/sh", "-c", script]}))
}

fn kubeconfig_text(server: SocketAddr, ca: &Path) -> String {
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": format!("https://{server}"), "certificate-authority": ca}}],
        "users": [{"name": "test", "user": {"token": TOKEN}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    });
    text.to_string()
}
