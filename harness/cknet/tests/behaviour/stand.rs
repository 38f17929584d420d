//! Clusters of `cknet up`, a namespace for each trial in them, and commands in pods and on nodes.

use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ApiResource, AttachParams, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::runtime::watcher;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::runtime::Runtime;

const CKNET: &str = env!("CARGO_BIN_EXE_cknet");

/// The image of Kubernetes' own tests.
pub const AGNHOST: &str = "registry.k8s.io/e2e-test-images/agnhost:2.53";

/// How long something that the cluster does by itself may take, also on a busy machine.
pub const SOON: Duration = Duration::from_secs(30);

/// Longest run of one command in a pod.
const COMMAND: Duration = Duration::from_secs(60);

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap())
}

/// A cluster with a state folder of its own.
pub struct Stand {
    folder: TempDir,
    run: String,
    client: kube::Client,
    /// How long `cknet up` took.
    pub took: Duration,
}

static SHARED: OnceLock<Result<Stand, String>> = OnceLock::new();
static BREAKABLE: OnceLock<Result<Stand, String>> = OnceLock::new();

/// The cluster of all trials that break nothing: cp1, w1, w2.
pub fn shared() -> &'static Stand {
    SHARED.get_or_init(|| Stand::up(2)).as_ref().unwrap_or_else(|why| panic!("{why}"))
}

/// The cluster of trials that break nodes, cp1 and w1, and the right to break something of it.
pub fn breakable() -> (&'static Stand, MutexGuard<'static, ()>) {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    (BREAKABLE.get_or_init(|| Stand::up(1)).as_ref().unwrap_or_else(|why| panic!("{why}")), turn)
}

/// Takes down every cluster that was made; returns what went wrong.
pub fn down() -> Vec<String> {
    let made = [&SHARED, &BREAKABLE].into_iter().filter_map(|stand| stand.get()?.as_ref().ok());
    made.filter_map(|stand| {
        let done = stand.cknet(&["down"]);
        (done.out != format!("cluster {} is down\n", stand.run)).then(|| format!("`cknet down`: {done:?}"))
    })
    .collect()
}

/// What a command did.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Stand {
    fn up(workers: u8) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let begun = Instant::now();
        let done = command(folder.path(), &["up", "--workers", &workers.to_string()]);
        if done.code != 0 {
            return Err(format!("`cknet up` failed: {done:?}"));
        }
        let took = begun.elapsed();
        let after = |start: &str| {
            let line = done.out.lines().find_map(|line| line.strip_prefix(start));
            line.map(ToString::to_string).ok_or_else(|| format!("`cknet up` did not print `{start}`:\n{}", done.out))
        };
        let run = after("cluster ")?.split(' ').next().unwrap_or_default().to_owned();
        let path = after("export KUBECONFIG=")?;
        let config = kube::config::Kubeconfig::read_from(path).map_err(|error| error.to_string())?;
        let client = runtime().block_on(async {
            let config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await;
            kube::Client::try_from(config.map_err(|error| error.to_string())?).map_err(|error| error.to_string())
        })?;
        Ok(Self { folder, run, client, took })
    }

    fn cknet(&self, arguments: &[&str]) -> Done {
        command(self.folder.path(), arguments)
    }

    /// Runs a shell line on a node.
    pub fn try_on_node(&self, node: &str, script: &str) -> Done {
        self.cknet(&["shell", node, "--", "sh", "-c", script])
    }

    /// Runs a shell line on a node; it must work.
    #[track_caller]
    pub fn on_node(&self, node: &str, script: &str) -> String {
        let done = self.try_on_node(node, script);
        assert_eq!(done.code, 0, "`{script}` on {node}: {done:?}");
        done.out
    }

    fn api(&self, object: &Value, namespace: &str) -> Api<DynamicObject> {
        let (version, kind) = (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let own = object["metadata"]["namespace"].as_str();
        match kind {
            "Namespace" | "Node" | "IPPool" => Api::all_with(self.client.clone(), &resource),
            _ => Api::namespaced_with(self.client.clone(), own.unwrap_or(namespace), &resource),
        }
    }

    /// Creates or changes an object.
    #[track_caller]
    pub fn apply(&self, object: &Value, namespace: &str) {
        let name = object["metadata"]["name"].as_str().unwrap();
        let parameters = PatchParams::apply("behaviour").force();
        let (api, patch) = (self.api(object, namespace), Patch::Apply(object));
        let applied = runtime().block_on(api.patch(name, &parameters, &patch));
        assert!(applied.is_ok(), "cannot apply {object}: {:?}", applied.err());
    }

    #[track_caller]
    pub fn patch(&self, object: &Value, namespace: &str, patch: &Value) {
        let name = object["metadata"]["name"].as_str().unwrap();
        let patch = Patch::Merge(patch);
        let done = runtime().block_on(self.api(object, namespace).patch(name, &PatchParams::default(), &patch));
        assert!(done.is_ok(), "cannot change {object}: {:?}", done.err());
    }

    pub fn delete(&self, object: &Value, namespace: &str) {
        let name = object["metadata"]["name"].as_str().unwrap();
        // It may be gone already.
        let _ = runtime().block_on(self.api(object, namespace).delete(name, &DeleteParams::default()));
    }

    /// An object as the API has it now; null when it has none.
    pub fn get(&self, kind: (&str, &str), namespace: &str, name: &str) -> Value {
        let object = json!({"apiVersion": kind.0, "kind": kind.1, "metadata": {}});
        let found = runtime().block_on(self.api(&object, namespace).get_opt(name)).unwrap();
        found.map_or(Value::Null, |found| serde_json::to_value(found).unwrap())
    }

    pub fn list(&self, kind: (&str, &str), namespace: &str, selector: &str) -> Vec<Value> {
        let object = json!({"apiVersion": kind.0, "kind": kind.1, "metadata": {}});
        let parameters = ListParams::default().labels(selector);
        let found = runtime().block_on(self.api(&object, namespace).list(&parameters)).unwrap();
        found.items.into_iter().map(|item| serde_json::to_value(item).unwrap()).collect()
    }

    /// The status of the condition `kind` of a node, its reason and its message.
    pub fn condition(&self, node: &str, kind: &str) -> (String, String, String) {
        let node = self.get(("v1", "Node"), "", node);
        let found = node["status"]["conditions"].as_array().and_then(|all| all.iter().find(|one| one["type"] == kind));
        let found = found.cloned().unwrap_or_default();
        let text = |name: &str| found[name].as_str().unwrap_or_default().to_string();
        (text("status"), text("reason"), text("message"))
    }

    /// A namespace of that name, which is also its label `ns`.
    pub fn space(&'static self, name: &str) -> Space {
        let labels = json!({"ns": name});
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        self.apply(&object, "");
        Space { stand: self, name: name.into() }
    }
}

/// One environment for every command: nothing of the caller's settings shows.
fn command(folder: &Path, arguments: &[&str]) -> Done {
    let mut command = Command::new(CKNET);
    command.args(arguments).env("CKNET_STATE", folder.join("state")).env("HOME", folder).env_remove("KUBECONFIG");
    let done = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Done { code: done.status.code().unwrap_or(-1), out: text(done.stdout), err: text(done.stderr) }
}

/// A namespace of a cluster, deleted when dropped.
pub struct Space {
    pub stand: &'static Stand,
    pub name: String,
}

impl Drop for Space {
    fn drop(&mut self) {
        self.stand.delete(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.name}}), "");
    }
}

impl Space {
    #[track_caller]
    pub fn apply(&self, object: &Value) {
        self.stand.apply(object, &self.name);
    }

    /// Applies a manifest of `fixtures/manifests`; the namespace it names is this one.
    #[track_caller]
    pub fn apply_file(&self, name: &str) -> Value {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/manifests").join(name);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut object: Value = serde_saphyr::from_str(&text).unwrap();
        object["metadata"]["namespace"] = json!(self.name);
        self.apply(&object);
        object
    }

    pub fn delete(&self, object: &Value) {
        self.stand.delete(object, &self.name);
    }

    /// A pod as `kubectl run NAME --image=IMAGE --labels=LABELS -- ARGUMENTS` makes it, on a node where that is named.
    pub fn run(&self, name: &str, image: &str, node: &str, labels: &[(&str, &str)], arguments: &[&str]) {
        let labels: serde_json::Map<String, Value> = match labels {
            [] => [("run".to_string(), json!(name))].into_iter().collect(),
            labels => labels.iter().map(|(key, value)| (key.to_string(), json!(value))).collect(),
        };
        let mut container = json!({"name": name, "image": image});
        if !arguments.is_empty() {
            container["args"] = json!(arguments);
        }
        let mut spec = json!({"containers": [container], "terminationGracePeriodSeconds": 0});
        if !node.is_empty() {
            spec["nodeName"] = json!(node);
        }
        self.apply(&json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec,
        }));
    }

    /// A service in front of the pods of a label.
    pub fn expose(&self, name: &str, label: (&str, &str), port: u16, target: u16) {
        self.apply(&json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"selector": {label.0: label.1}, "ports": [{"port": port, "targetPort": target}]},
        }));
    }

    pub fn pod(&self, name: &str) -> Value {
        self.stand.get(("v1", "Pod"), &self.name, name)
    }

    pub fn address(&self, pod: &str) -> String {
        self.pod(pod)["status"]["podIP"].as_str().unwrap_or_default().to_string()
    }

    pub fn cluster_ip(&self, service: &str) -> String {
        let service = self.stand.get(("v1", "Service"), &self.name, service);
        service["spec"]["clusterIP"].as_str().unwrap_or_default().to_string()
    }

    /// Waits until the pod satisfies `wanted`.
    #[track_caller]
    pub fn await_pod(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let pods: Api<Pod> = Api::namespaced(self.stand.client.clone(), &self.name);
        let mut last = Value::Null;
        let watched = runtime().block_on(async {
            let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
            let mut events = std::pin::pin!(watcher(pods, config));
            let deadline = tokio::time::Instant::now() + SOON;
            while let Ok(Some(event)) = tokio::time::timeout_at(deadline, events.next()).await {
                let (watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) = (match event {
                    Ok(event) => event,
                    Err(_) => continue,
                }) else {
                    continue;
                };
                last = serde_json::to_value(pod).unwrap();
                if wanted(&last) {
                    return true;
                }
            }
            false
        });
        assert!(watched, "pod {name} is not {what} within {SOON:?}: {}", last["status"]);
        last
    }

    #[track_caller]
    pub fn await_ready(&self, pods: &[&str]) {
        pods.iter().for_each(|name| drop(self.await_pod(name, "ready", |pod| holds(pod, "Ready"))));
    }

    /// Runs a command in the first container of a pod, as `kubectl exec` does.
    #[track_caller]
    pub fn exec(&self, pod: &str, line: &str) -> Done {
        self.exec_words(pod, None, &line.split_whitespace().map(String::from).collect::<Vec<_>>())
    }

    /// Runs a shell line in a pod.
    #[track_caller]
    pub fn sh(&self, pod: &str, script: &str) -> Done {
        self.exec_words(pod, None, &["sh".into(), "-c".into(), script.into()])
    }

    #[track_caller]
    pub fn exec_words(&self, pod: &str, container: Option<&str>, words: &[String]) -> Done {
        let pods: Api<Pod> = Api::namespaced(self.stand.client.clone(), &self.name);
        let mut parameters = AttachParams::default().stdout(true).stderr(true);
        parameters.container = container.map(ToString::to_string);
        let work = async {
            let mut process = pods.exec(pod, words.to_vec(), &parameters).await.map_err(|error| error.to_string())?;
            let (status, stdout, stderr) = (process.take_status(), process.stdout(), process.stderr());
            let (mut out, mut err) = (String::new(), String::new());
            let read_out = async { stdout.unwrap().read_to_string(&mut out).await };
            let read_err = async { stderr.unwrap().read_to_string(&mut err).await };
            let (first, second) = tokio::join!(read_out, read_err);
            first.and(second).map_err(|error| error.to_string())?;
            let status = serde_json::to_value(status.unwrap().await).unwrap();
            let code = match status["status"] == "Success" {
                true => 0,
                false => status["details"]["causes"][0]["message"]
                    .as_str()
                    .and_then(|code| code.parse().ok())
                    .ok_or_else(|| status.to_string())?,
            };
            Ok::<_, String>(Done { code, out, err })
        };
        let done = runtime().block_on(async { tokio::time::timeout(COMMAND, work).await });
        match done {
            Ok(Ok(done)) => done,
            Ok(Err(error)) => panic!("cannot run {words:?} in {pod}: {error}"),
            Err(_) => panic!("{words:?} in {pod} did not end within {COMMAND:?}"),
        }
    }

    /// How `agnhost connect` ends: `allowed`, or the word it says.
    #[track_caller]
    pub fn connect(&self, from: &str, to: &str) -> String {
        let done = self.exec(from, &format!("/agnhost connect {to} --timeout=1s"));
        match done.code {
            0 => "allowed".into(),
            _ => done.err.trim().to_string(),
        }
    }

    /// Connects again and again until it ends so.
    #[track_caller]
    pub fn await_connect(&self, from: &str, to: &str, expected: &str) {
        eventually(&format!("{from} to {to} is {expected}"), || match self.connect(from, to) {
            ended if ended.starts_with(expected) => Ok(()),
            ended => Err(ended),
        });
    }

    /// Asserts how several connections end, now.
    #[track_caller]
    pub fn see(&self, expected: &[(&str, &str, &str)]) {
        let seen: Vec<_> = expected
            .iter()
            .map(|(from, to, how)| {
                let ended = self.connect(from, to);
                let ended = if ended.starts_with(how) { how.to_string() } else { ended };
                (*from, *to, ended)
            })
            .collect();
        let expected: Vec<_> = expected.iter().map(|(from, to, how)| (*from, *to, how.to_string())).collect();
        assert_eq!(seen, expected);
    }
}

/// Whether a condition of an object holds.
pub fn holds(object: &Value, condition: &str) -> bool {
    let all = object["status"]["conditions"].as_array();
    all.is_some_and(|all| all.iter().any(|one| one["type"] == condition && one["status"] == "True"))
}

/// Tries until it works; fails with what was awaited and what was seen last.
#[track_caller]
pub fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(last) => assert!(started.elapsed() < SOON, "{what}: not within {SOON:?}; last: {last}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
