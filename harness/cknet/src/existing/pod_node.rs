//! A node of a cluster that is known by its API alone: programs run in a privileged pod on it, in the node's network
//! and among its processes. That is enough to probe from it and to see its facts; nothing on it is changed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::Client;
use kube::api::{Api, AttachParams, AttachedProcess};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

use crate::cluster::objects::{Objects, answer};
use crate::cluster::workloads;
use crate::provider::{Conversation, Exit, Invocation, Node, NodeError, NodeSpec, Output};

/// Longest time until the pod runs; its image may have to be pulled.
const RUNS: Duration = Duration::from_secs(120);

/// Longest time for an image that could not be pulled; the kubelet tries again after 10 s and after 20 s.
const PULLS: Duration = Duration::from_secs(35);

/// What is said of a container whose image could not be pulled: why, and that it will be tried again.
const NOT_PULLED: &str = "ErrImagePull";
const TRIED_AGAIN: &str = "ImagePullBackOff";

/// What is said of an image that will not come, however long one waits.
const NEVER: [&str; 2] = ["InvalidImageName", "ErrImageNeverPull"];

/// Longest time for a connection to a program to begin.
const BEGINS: Duration = Duration::from_secs(15);

/// Between two looks at the pod.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What may be run: programs that look and ask, and change nothing.
const LOOKING: [&str; 4] = ["facts", "probe", "drops", "ruleset"];

/// A node.
pub struct PodNode {
    name: String,
    registered: String,
    addresses: BTreeMap<String, Ipv4Net>,
    pod: String,
    pods: Api<Pod>,
}

impl PodNode {
    /// Starts the pod on the node that the cluster calls `registered`, and waits until it runs.
    pub async fn start(
        objects: &Objects,
        client: Client,
        namespace: &str,
        image: &str,
        spec: &NodeSpec,
        registered: &str,
    ) -> Result<Self, String> {
        let pod = format!("node-{}", spec.name);
        let described = described(&pod, namespace, image, registered);
        objects.apply(&described).await.map_err(|error| {
            format!("{error}; nodes are reached through privileged pods, or by ssh where `--inventory` names them")
        })?;
        let pods = Api::namespaced(client, namespace);
        await_running(&pods, &pod, registered).await?;
        let addresses = spec.nics.iter().map(|nic| (nic.name.clone(), nic.address)).collect();
        Ok(Self { name: spec.name.clone(), registered: registered.into(), addresses, pod, pods })
    }

    fn failed(&self, doing: impl Into<String>, cause: impl std::fmt::Display) -> NodeError {
        NodeError::Failed { node: self.name.clone(), doing: doing.into(), cause: cause.to_string() }
    }

    /// The refusal of what would change the node.
    fn untouched<T: Send + 'static>(&self, doing: String) -> BoxFuture<'_, Result<T, NodeError>> {
        let cause = "of this cluster only the kubeconfig is known, and its nodes are left as they are";
        futures::future::ready(Err(self.failed(doing, cause))).boxed()
    }

    async fn begin(&self, invocation: &Invocation) -> Result<AttachedProcess, NodeError> {
        let doing = || format!("run `{invocation}`");
        let looks = invocation.argv.first().is_some_and(|program| program == "cknet")
            && invocation.argv.get(1).is_some_and(|word| LOOKING.contains(&word.as_str()));
        if !looks || !invocation.environment.is_empty() {
            return self.untouched(doing()).await;
        }
        let parameters = AttachParams::default().stdin(true).stdout(true).stderr(true);
        let began = tokio::time::timeout(BEGINS, self.pods.exec(&self.pod, &invocation.argv, &parameters)).await;
        let began = began.map_err(|_| self.failed(doing(), format_args!("it did not begin within {BEGINS:?}")))?;
        began.map_err(|error| self.failed(doing(), answer(&error)))
    }

    async fn finish(&self, invocation: &Invocation) -> Result<Output, NodeError> {
        let failed = |cause: &dyn std::fmt::Display| self.failed(format!("run `{invocation}`"), cause);
        let mut process = self.begin(invocation).await?;
        let (input, output, complaints) = (process.stdin(), process.stdout(), process.stderr());
        let status = process.take_status();
        let feed = async {
            if let Some(mut input) = input {
                // A program that does not read its input may end before it was written.
                let _ = input.write_all(&invocation.stdin).await;
                let _ = input.shutdown().await;
            }
        };
        let (stdout, stderr, ()) = tokio::join!(all(output), all(complaints), feed);
        let ended = match status {
            Some(status) => status.await,
            None => None,
        };
        let ended = ended.ok_or_else(|| failed(&"the connection ended before the program did"))?;
        Ok(Output { exit: exit(&ended).map_err(|cause| failed(&cause))?, stdout, stderr })
    }
}

/// The pod: the probe image on the node's network and among its processes, doing nothing until it is asked.
fn described(name: &str, namespace: &str, image: &str, node: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "nodeName": node,
            "hostNetwork": true,
            "hostPID": true,
            "dnsPolicy": "Default",
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{
                "name": "probe",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "command": ["cknet", "pause"],
                "securityContext": {"privileged": true},
            }],
        },
    })
}

async fn await_running(pods: &Api<Pod>, name: &str, node: &str) -> Result<(), String> {
    let started = tokio::time::Instant::now();
    let mut not_pulled = None;
    loop {
        let pod = pods.get(name).await.map_err(|error| answer(&error))?;
        let pod = serde_json::to_value(pod).map_err(|error| error.to_string())?;
        let waits_for =
            pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].as_str().unwrap_or_default();
        if waits_for == NOT_PULLED || NEVER.contains(&waits_for) {
            not_pulled = Some(workloads::why_not_running(&pod));
        }
        let given_up =
            NEVER.contains(&waits_for) || [NOT_PULLED, TRIED_AGAIN].contains(&waits_for) && started.elapsed() >= PULLS;
        match pod["status"]["phase"].as_str() {
            _ if given_up => {
                // That it is tried again says less than why it has to be.
                let why = not_pulled.unwrap_or_else(|| workloads::why_not_running(&pod));
                return Err(format!("the pod `{name}` on node `{node}` does not get its image: {why}"));
            }
            Some("Running") => return Ok(()),
            Some(phase @ ("Failed" | "Succeeded")) => {
                return Err(format!("the pod `{name}` on node `{node}` ended: {phase}"));
            }
            _ if started.elapsed() >= RUNS => {
                let why = workloads::why_not_running(&pod);
                return Err(format!("the pod `{name}` on node `{node}` does not run after {RUNS:?}: {why}"));
            }
            _ => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

/// Everything that comes out of a stream.
async fn all(stream: Option<impl tokio::io::AsyncRead + Unpin>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        // What came before an error is all there is; how the program ended is told by its status.
        let _ = stream.read_to_end(&mut bytes).await;
    }
    bytes
}

/// How a program ended, from the status that the API gives of it.
fn exit(status: &Status) -> Result<Exit, String> {
    if status.status.as_deref() == Some("Success") {
        return Ok(Exit::Code(0));
    }
    let causes = status.details.as_ref().and_then(|details| details.causes.as_ref());
    let cause = causes.and_then(|causes| causes.iter().find(|cause| cause.reason.as_deref() == Some("ExitCode")));
    let code = cause.and_then(|cause| cause.message.as_ref()?.parse().ok());
    code.map(Exit::Code).ok_or_else(|| status.message.clone().unwrap_or_else(|| "no reason was given".into()))
}

/// Ends a conversation's task when dropped.
struct Leash(tokio::task::JoinHandle<()>);

impl Drop for Leash {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Carries between the pipes of a conversation and the program, until either side has ended.
async fn carry(mut process: AttachedProcess, mut from: pipe::Receiver, mut to: pipe::Sender) {
    let (input, output) = (process.stdin(), process.stdout());
    let there = async {
        if let Some(mut input) = input {
            let _ = tokio::io::copy(&mut from, &mut input).await;
            let _ = input.shutdown().await;
        }
    };
    let back = async {
        if let Some(mut output) = output {
            let _ = tokio::io::copy(&mut output, &mut to).await;
        }
        drop(to);
    };
    tokio::join!(there, back);
}

impl Node for PodNode {
    fn name(&self) -> &str {
        &self.name
    }

    fn registered(&self) -> &str {
        &self.registered
    }

    fn addresses(&self) -> &BTreeMap<String, Ipv4Net> {
        &self.addresses
    }

    fn run(&self, invocation: Invocation, deadline: Duration) -> BoxFuture<'_, Result<Output, NodeError>> {
        async move {
            let ended = tokio::time::timeout(deadline, self.finish(&invocation)).await;
            ended.unwrap_or_else(|_| {
                let (node, command) = (self.name.clone(), invocation.to_string());
                Err(NodeError::Deadline { node, command, deadline })
            })
        }
        .boxed()
    }

    fn start(&self, _: &str, invocation: Invocation) -> BoxFuture<'_, Result<(), NodeError>> {
        self.untouched(format!("start `{invocation}`"))
    }

    fn stop(&self, service: &str) -> BoxFuture<'_, Result<(), NodeError>> {
        self.untouched(format!("stop `{service}`"))
    }

    fn ended(&self, _: &str) -> BoxFuture<'_, Option<Exit>> {
        futures::future::ready(None).boxed()
    }

    fn converse(&self, invocation: Invocation) -> BoxFuture<'_, Result<Conversation, NodeError>> {
        async move {
            let process = self.begin(&invocation).await?;
            let pipes = || Ok::<_, std::io::Error>((pipe::pipe()?, pipe::pipe()?));
            let ((stdin, from), (to, stdout)) = pipes().map_err(|error| self.failed("make a pipe", error))?;
            let leash = Leash(tokio::spawn(carry(process, from, to)));
            Ok(Conversation { stdin, stdout, leash: Box::new(leash) })
        }
        .boxed()
    }

    fn put(&self, path: &str, _: u32, _: Vec<u8>) -> BoxFuture<'_, Result<(), NodeError>> {
        self.untouched(format!("write `{path}`"))
    }

    fn take(&self, path: &str) -> BoxFuture<'_, Result<Vec<u8>, NodeError>> {
        self.untouched(format!("read `{path}`"))
    }

    fn forward(&self, port: u16) -> BoxFuture<'_, Result<SocketAddr, NodeError>> {
        self.untouched(format!("forward port {port}"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::stand_in::{StandIn, status};
    use super::*;
    use crate::provider::Nic;

    const POD: &str = "/api/v1/namespaces/cknet-r1/pods/node-w1";

    /// What becomes of a pod of which the API says this when it is made, and that when it is looked at.
    async fn started(made: (u16, Value), looked_at: Value) -> String {
        let (patch, get) = (format!("PATCH {POD}").leak(), format!("GET {POD}").leak());
        let pods =
            json!({"name": "pods", "singularName": "pod", "namespaced": true, "kind": "Pod", "verbs": ["patch"]});
        let kinds = json!({"kind": "APIResourceList", "groupVersion": "v1", "resources": [pods]});
        let answers = [("GET /api/v1", 200, kinds), (&*patch, made.0, made.1), (&*get, 200, looked_at)];
        let server = StandIn::start(&answers).await;
        let objects = Objects::new(server.client(), None);
        let nic = Nic { name: "eth0".into(), segment: "lan".into(), address: "10.0.0.6/24".parse().unwrap() };
        let spec = NodeSpec { name: "w1".into(), nics: vec![nic], forwards: true, routes: Vec::new() };
        PodNode::start(&objects, server.client(), "cknet-r1", "x", &spec, "south").await.err().unwrap()
    }

    fn pod(waiting: Value) -> Value {
        let statuses = json!([{"name": "probe", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
                               "state": {"waiting": waiting}}]);
        json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "node-w1", "namespace": "cknet-r1"},
               "status": {"phase": "Pending", "containerStatuses": statuses}})
    }

    #[tokio::test]
    async fn a_cluster_that_forbids_privileged_pods_is_told_with_its_words() {
        let why = "pods \"node-w1\" is forbidden: violates PodSecurity \"restricted:latest\": privileged";
        let said = started((403, status(403, why)), Value::Null).await;
        let wanted =
            format!("cannot apply Pod cknet-r1/node-w1: {why}; nodes are reached through privileged pods, or by ssh");
        assert!(said.starts_with(&wanted), "{said}");
    }

    #[tokio::test]
    async fn an_image_that_never_comes_is_told_at_once() {
        let waiting = json!({"reason": "InvalidImageName", "message": "couldn't parse image name \"X:\""});
        let said = started((200, pod(json!({}))), pod(waiting)).await;
        let wanted = "the pod `node-w1` on node `south` does not get its image: Pending: InvalidImageName couldn't parse \
                      image name \"X:\"";
        assert_eq!(said, wanted);
    }
}
