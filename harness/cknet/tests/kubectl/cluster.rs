//! Clusters made by `cknet up`, and a namespace for each trial in them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::program::{Done, Going, eventually, kubectl, run, words};

const CKNET: &str = env!("CARGO_BIN_EXE_cknet");

/// The image of every pod here.
pub const IMAGE: &str = "ghcr.io/cknet/cknet-probe:v1";

/// How long something that the cluster does by itself may take.
pub const SOON: Duration = Duration::from_secs(20);

/// A cluster of `cknet up` with a state folder and a home of its own.
pub struct Cluster {
    folder: TempDir,
    /// What `cknet up` printed.
    pub said: String,
    pub run: String,
    pub kubeconfig: PathBuf,
}

/// The cluster of all trials that break nothing: cp1, w1, w2.
pub fn shared() -> &'static Cluster {
    SHARED.get_or_init(|| Cluster::up("")).as_ref().unwrap_or_else(|why| panic!("{why}"))
}

/// The cluster of trials that break nodes; they take turns.
pub fn breakable() -> &'static Cluster {
    BREAKABLE.get_or_init(|| Cluster::up("")).as_ref().unwrap_or_else(|why| panic!("{why}"))
}

static SHARED: OnceLock<Result<Cluster, String>> = OnceLock::new();
static BREAKABLE: OnceLock<Result<Cluster, String>> = OnceLock::new();

/// Takes down every cluster that was made; returns what went wrong.
pub fn down() -> Vec<String> {
    let made = [&SHARED, &BREAKABLE].into_iter().filter_map(|cluster| cluster.get()?.as_ref().ok());
    made.filter_map(|cluster| cluster.down().err()).collect()
}

/// One environment for every program: nothing of the caller's settings shows.
fn settings(folder: &Path, kubeconfig: &Path) -> BTreeMap<&'static str, OsString> {
    BTreeMap::from([
        ("CKNET_STATE", folder.join("state").into()),
        ("HOME", folder.into()),
        ("KUBECONFIG", kubeconfig.into()),
        ("TZ", "UTC".into()),
    ])
}

impl Cluster {
    /// Makes one, and reads what `cknet up` prints as a person would.
    pub fn up(options: &str) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let arguments = words(&format!("up {options}")).into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>();
        let done = run("cknet up", &CKNET.into(), &arguments, &settings(folder.path(), Path::new("")), "");
        if done.code != 0 {
            return Err(format!("`cknet up` failed with {}: {}{}", done.code, done.out, done.err));
        }
        let after = |start: &str| {
            let line = done.out.lines().find_map(|line| line.strip_prefix(start));
            line.ok_or_else(|| format!("`cknet up` did not print `{start}`:\n{}", done.out))
        };
        let run = after("cluster ")?.split(' ').next().unwrap_or_default().to_owned();
        let kubeconfig = after("export KUBECONFIG=")?.into();
        Ok(Self { folder, said: done.out, run, kubeconfig })
    }

    /// Takes it down; fails if that is not what `cknet` says, or if the cluster is still there afterwards.
    pub fn down(&self) -> Result<(), String> {
        let done = self.cknet("down");
        let expected = format!("cluster {} is down\n", self.run);
        if (done.code, &done.out) != (0, &expected) {
            return Err(format!("`cknet down` of {}: {done:?}", self.run));
        }
        match self.cknet("status").out.as_str() {
            "no cluster is running; make one: cknet up\n" => Ok(()),
            other => Err(format!("`cknet status` after `cknet down`: {other}")),
        }
    }

    fn settings(&self) -> BTreeMap<&'static str, OsString> {
        settings(self.folder.path(), &self.kubeconfig)
    }

    pub fn cknet(&self, line: &str) -> Done {
        run(&format!("cknet {line}"), &CKNET.into(), &words(line), &self.settings(), "")
    }

    /// Runs a shell line on a node and returns its output; it must work.
    pub fn on_node(&self, node: &str, script: &str) -> String {
        let line = format!("shell {node} -- sh -c '{script}'");
        let done = self.cknet(&line);
        assert_eq!(done.code, 0, "`cknet {line}`: {done:?}");
        done.out
    }

    pub fn kubectl_with(&self, line: &str, input: &str) -> Done {
        run(&format!("kubectl {line}"), kubectl().unwrap(), &words(line), &self.settings(), input)
    }

    /// Runs a line that must work and returns its output.
    #[track_caller]
    pub fn kubectl(&self, line: &str) -> String {
        let done = self.kubectl_with(line, "");
        assert_eq!(done.code, 0, "`kubectl {line}`:\n{}{}", done.out, done.err);
        done.out
    }

    /// A namespace of that name.
    pub fn space(&'static self, name: &str) -> Space {
        assert_eq!(self.kubectl(&format!("create namespace {name}")), format!("namespace/{name} created\n"));
        Space { cluster: self, name: name.to_owned() }
    }

    /// What a connection from a node ends with, as [`Space::connect`].
    pub fn connect_from_node(&self, node: &str, to: &str) -> String {
        ending(&self.cknet(&format!("shell {node} -- cknet connect {to} --timeout 600ms")))
    }
}

/// A namespace of the cluster, deleted when dropped.
pub struct Space {
    pub cluster: &'static Cluster,
    pub name: String,
}

impl Drop for Space {
    fn drop(&mut self) {
        // Best effort: the cluster goes in the end.
        let line = format!("delete namespace {} --wait=false", self.name);
        let _ = run("kubectl delete", kubectl().unwrap(), &words(&line), &self.cluster.settings(), "");
    }
}

impl Space {
    fn line(&self, line: &str) -> String {
        format!("-n {} {line}", self.name)
    }

    pub fn run_with(&self, line: &str, input: &str) -> Done {
        self.cluster.kubectl_with(&self.line(line), input)
    }

    pub fn run(&self, line: &str) -> Done {
        self.run_with(line, "")
    }

    /// Runs a line that must work and returns its output.
    #[track_caller]
    pub fn ok(&self, line: &str) -> String {
        self.ok_with(line, "")
    }

    #[track_caller]
    pub fn ok_with(&self, line: &str, input: &str) -> String {
        let done = self.run_with(line, input);
        assert_eq!(done.code, 0, "`kubectl {line}`:\n{}{}", done.out, done.err);
        done.out
    }

    /// Runs a line that must fail with exit code 1 and returns what it complains of.
    #[track_caller]
    pub fn fails(&self, line: &str, input: &str) -> String {
        let done = self.run_with(line, input);
        assert_eq!((done.code, done.out.as_str()), (1, ""), "`kubectl {line}`:\n{}", done.err);
        done.err
    }

    pub fn start(&self, line: &str) -> Going {
        let line = self.line(line);
        Going::start(&format!("kubectl {line}"), kubectl().unwrap(), &words(&line), &self.cluster.settings())
    }

    /// Runs a line of kubectl on a terminal of its own, with `typed` at its keyboard.
    pub fn on_terminal(&self, line: &str, typed: &str) -> Done {
        let program = kubectl().unwrap().display();
        let command = format!("stty rows 33 cols 101; {program} {}", self.line(line));
        let arguments = ["-qec", &command, "/dev/null"].map(String::from);
        run(&command, &"script".into(), &arguments, &self.cluster.settings(), typed)
    }

    /// One field of one object.
    #[track_caller]
    pub fn field(&self, object: &str, path: &str) -> String {
        self.ok(&format!("get {object} -o 'jsonpath={{{path}}}'"))
    }

    /// Pods of the given names, labels (`app=`), nodes and ports; returns when all are ready.
    pub fn pods(&self, pods: &[(&str, &str, &str, &[&str])]) {
        let items: Vec<Value> = pods.iter().map(|(name, app, node, listen)| pod(name, app, node, listen)).collect();
        self.ok_with("apply -f -", &json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string());
        let names: Vec<String> = pods.iter().map(|(name, ..)| format!("pod/{name}")).collect();
        self.ok(&format!("wait --for=condition=Ready --timeout=30s {}", names.join(" ")));
    }

    pub fn address(&self, pod: &str) -> String {
        self.field(&format!("pod {pod}"), ".status.podIP")
    }

    /// How a connection from a pod ends: `allowed by NAMESPACE/POD`, or the word for the failure.
    pub fn connect(&self, from: &str, to: &str) -> String {
        ending(&self.run(&format!("exec {from} -- cknet connect {to} --timeout 600ms")))
    }

    /// Connects again and again until it ends so.
    #[track_caller]
    pub fn await_connect(&self, from: &str, to: &str, expected: &str) {
        eventually(&format!("{from} to {to} is {expected}"), SOON, || match self.connect(from, to) {
            ended if ended == expected => Ok(()),
            ended => Err(ended),
        });
    }

    /// Asserts how several connections end, now.
    #[track_caller]
    pub fn see(&self, expected: &[(&str, &str, &str)]) {
        let seen: Vec<_> = expected.iter().map(|(from, to, _)| (*from, *to, self.connect(from, to))).collect();
        let expected: Vec<_> = expected.iter().map(|(from, to, how)| (*from, *to, how.to_string())).collect();
        assert_eq!(seen, expected);
    }
}

/// The words of `cknet connect` without what differs each time.
fn ending(done: &Done) -> String {
    match done.out.strip_prefix("allowed: peer ").and_then(|rest| rest.split_once(' ')) {
        Some((peer, _)) => format!("allowed by {peer}"),
        None if done.code == 0 => done.out.split(" (").next().unwrap_or_default().to_owned(),
        None => done.err.lines().next().unwrap_or_default().to_owned(),
    }
}

/// A pod that answers on the ports of `listen`.
pub fn pod(name: &str, app: &str, node: &str, listen: &[&str]) -> Value {
    let arguments: Vec<&str> = listen.iter().flat_map(|port| ["--listen", *port]).collect();
    // An argument list that is empty would be that of the image.
    let arguments = if arguments.is_empty() { vec!["--listen", "9/tcp"] } else { arguments };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": app}},
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "probe", "image": IMAGE, "args": arguments}],
        },
    })
}

/// A Deployment of pods that answer on 8080/tcp.
pub fn deployment(name: &str, replicas: u32) -> String {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "terminationGracePeriodSeconds": 0,
                    "containers": [{
                        "name": "probe", "image": IMAGE, "args": ["--listen", "8080/tcp"],
                        "ports": [{"name": "http", "containerPort": 8080}],
                    }],
                },
            },
        },
    })
    .to_string()
}

/// A policy of the document as it stands in `fixtures/manifests/policy`, for the namespace `production`.
pub fn policy(name: &str) -> String {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/manifests/policy").join(format!("{name}.yaml"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The same for another namespace.
pub fn policy_for(name: &str, namespace: &str) -> String {
    let text = policy(name);
    assert!(text.contains("namespace: production"), "{text}");
    text.replace("namespace: production", &format!("namespace: {namespace}"))
}
