//! Stock kubectl against the API server, verb by verb, with a small kubelet of the test behind exec and logs.
//! Needs kubectl 1.32 or newer: `CKNET_KUBECTL`, or the one on the path.
// The reason why a test is not run is for a person to read, and goes where cargo shows it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod api_support;

use std::process::Stdio;
use std::time::Duration;

use api_support::Server;
use api_support::kubelet::FakeKubelet;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// kubectl with a configuration and a home of its own.
struct Kubectl {
    program: String,
    home: TempDir,
}

/// What one invocation did.
struct Done {
    code: i32,
    out: String,
    err: String,
}

impl Kubectl {
    /// Finds kubectl; without one the test says why it is not run, or fails where kubectl is required.
    async fn find(server: &Server) -> Option<Self> {
        let program = std::env::var("CKNET_KUBECTL").unwrap_or_else(|_| "kubectl".to_owned());
        let told = Command::new(&program).args(["version", "--client", "-o", "json"]).output().await;
        let version: Value =
            told.ok().and_then(|told| serde_json::from_slice(&told.stdout).ok()).unwrap_or(Value::Null);
        let minor = version["clientVersion"]["minor"].as_str().unwrap_or_default().trim_end_matches('+').parse::<u32>();
        if !minor.as_ref().is_ok_and(|minor| *minor >= 32) {
            let why = format!("ignored: kubectl 1.32 or newer is needed, `{program}` is {minor:?}");
            let required = std::env::var("CKNET_REQUIRE").unwrap_or_default();
            assert!(!required.split(',').any(|name| name == "kubectl"), "{why}");
            eprintln!("{why}");
            return None;
        }
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("config"), server.kubeconfig()).unwrap();
        Some(Self { program, home })
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args(words(line)).env("HOME", self.home.path()).env("KUBECONFIG", self.home.path().join("config"));
        command.current_dir(self.home.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        command
    }

    async fn with_input(&self, line: &str, input: &str) -> Done {
        let mut child = self.command(line).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        let output = tokio::time::timeout(Duration::from_secs(60), child.wait_with_output()).await;
        let output = output.unwrap_or_else(|_| panic!("`kubectl {line}` did not end within 60 s")).unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Done { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }

    async fn run(&self, line: &str) -> Done {
        self.with_input(line, "").await
    }

    /// Runs a line that must work and returns its output.
    async fn ok(&self, line: &str) -> String {
        self.ok_with(line, "").await
    }

    async fn ok_with(&self, line: &str, input: &str) -> String {
        let done = self.with_input(line, input).await;
        assert_eq!(done.code, 0, "`kubectl {line}`:\n{}{}", done.out, done.err);
        assert!(!done.err.contains("panic"), "{}", done.err);
        done.out
    }

    /// Runs a line that must fail and returns what it complains of.
    async fn fails(&self, line: &str, input: &str) -> String {
        let done = self.with_input(line, input).await;
        assert_ne!(done.code, 0, "`kubectl {line}` worked:\n{}", done.out);
        done.err
    }
}

/// Splits at blanks, except between single quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words
}

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: c, image: 'agnhost:2.53', ports: [{containerPort: 8080, name: http}]}
      - {name: side, image: 'agnhost:2.53'}
";

const POLICY: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny}
spec:
  podSelector: {matchLabels: {app: web}}
  ingres: []
";

/// A pod on the fake kubelet's node, running.
async fn running_pod(server: &Server, kubelet: &FakeKubelet, name: &str) {
    kubelet.register(server).await;
    let pod = json!({"metadata": {"name": name, "labels": {"run": name}}, "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "x"}]}});
    assert_eq!(server.post("/api/v1/namespaces/default/pods", &pod).await.code, 201);
    let status = json!({"status": {"phase": "Running", "podIP": "10.1.0.5", "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{"name": "c", "image": "x", "imageID": "", "ready": true, "restartCount": 0, "state": {"running": {}}}]}});
    let path = format!("/api/v1/namespaces/default/pods/{name}/status");
    assert_eq!(server.merge(&path, &status).await.code, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_can_be_looked_at() {
    let server = Server::start();
    let Some(kubectl) = Kubectl::find(&server).await else {
        return;
    };
    assert!(kubectl.ok("version").await.contains("Server Version: v1.33"));
    let resources = kubectl.ok("api-resources").await;
    for line in ["deployments", "ippools", "networkpolicies", "endpointslices"] {
        assert!(resources.contains(line), "{resources}");
    }
    assert!(kubectl.ok("api-versions").await.contains("crd.projectcalico.org/v1"));
    assert!(kubectl.ok("cluster-info").await.contains("control plane"));
    assert!(kubectl.ok("get ns").await.contains("kube-system       Active"));
    assert!(kubectl.ok("get svc kubernetes -o wide").await.contains("10.252.0.1"));
    assert!(kubectl.ok("get all -A").await.contains("service/kubernetes"));
    assert_eq!(kubectl.ok("auth can-i create pods").await.trim(), "yes");
    assert!(kubectl.ok("auth whoami").await.contains("admin"));
    let explained = kubectl.ok("explain networkpolicy.spec.ingress.from.ipBlock").await;
    assert!(explained.contains("cidr") && explained.contains("except"), "{explained}");
    assert!(kubectl.ok("explain deploy.spec.template.spec.containers --recursive").await.contains("containerPort"));
    assert!(kubectl.ok("get --raw /readyz").await.contains("ok"));
    assert!(kubectl.fails("get pod nope", "").await.contains("pods \"nope\" not found"));
    assert!(kubectl.fails("get nosuchthing", "").await.contains("the server doesn't have a resource type"));
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_created_changed_and_deleted() {
    let server = Server::start();
    let Some(kubectl) = Kubectl::find(&server).await else {
        return;
    };
    kubectl.ok("create namespace a").await;
    assert!(kubectl.fails("create namespace a", "").await.contains("already exists"));
    kubectl.ok("create configmap settings --from-literal=a=1 -n a").await;
    kubectl.ok("create secret generic hidden --from-literal=a=1 -n a").await;
    assert_eq!(kubectl.ok("get secret hidden -n a -o 'jsonpath={.data.a}'").await, "MQ==");
    kubectl.ok("label configmap settings -n a colour=blue").await;
    kubectl.ok("annotate configmap settings -n a note=hello").await;
    assert!(kubectl.ok("get configmaps -A -l colour=blue -o name").await.contains("configmap/settings"));
    assert!(
        kubectl.ok("get cm -n a --field-selector metadata.name=settings --no-headers").await.starts_with("settings")
    );
    kubectl.ok("patch cm settings -n a --type merge -p '{\"data\":{\"a\":\"2\"}}'").await;
    kubectl.ok("patch cm settings -n a --type json -p '[{\"op\":\"test\",\"path\":\"/data/a\",\"value\":\"2\"},{\"op\":\"add\",\"path\":\"/data/b\",\"value\":\"3\"}]'").await;
    kubectl.ok("patch cm settings -n a -p '{\"data\":{\"b\":null}}'").await;
    assert_eq!(kubectl.ok("get cm settings -n a -o 'jsonpath={.data}'").await, "{\"a\":\"2\"}");
    let yaml = kubectl.ok("get cm settings -n a -o yaml").await;
    assert!(yaml.contains("colour: blue"));
    kubectl.ok_with("replace -f -", &yaml.replace("\"2\"", "\"9\"")).await;
    let mut edit = kubectl.command("edit cm settings -n a");
    edit.env("KUBE_EDITOR", "sed -i s/hello/edited/");
    let edited = edit.output().await.unwrap();
    assert!(edited.status.success(), "{}", String::from_utf8_lossy(&edited.stderr));
    assert!(kubectl.ok("get cm settings -n a -o yaml").await.contains("note: edited"));
    kubectl.ok("create service clusterip plain --tcp=80:8080 -n a").await;
    kubectl.ok("create service nodeport open --tcp=80:8080 -n a").await;
    assert!(kubectl.ok("describe svc open -n a").await.contains("NodePort:"));
    kubectl.ok("run one --image=agnhost:2.53 -n a").await;
    assert!(kubectl.ok("get pods -n a").await.contains("Pending"));
    assert!(kubectl.ok("describe pod one -n a").await.contains("Status:           Pending"));
    kubectl.ok("delete pod one -n a").await;
    kubectl.ok("delete cm,svc --all -n a").await;
    assert!(kubectl.run("get svc -n a").await.err.contains("No resources found"));
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_are_applied_by_client_and_by_server() {
    let server = Server::start();
    let Some(kubectl) = Kubectl::find(&server).await else {
        return;
    };
    assert!(kubectl.ok_with("apply -f -", DEPLOYMENT).await.contains("created"));
    assert!(kubectl.ok_with("apply -f -", DEPLOYMENT).await.contains("unchanged"));
    let changed =
        DEPLOYMENT.replace("replicas: 2", "replicas: 3").replace("      - {name: side, image: 'agnhost:2.53'}\n", "");
    let diff = kubectl.with_input("diff -f -", &changed).await;
    assert!(diff.code == 1 && diff.out.contains("+  replicas: 3"), "{}{}", diff.out, diff.err);
    assert!(kubectl.ok_with("apply -f -", &changed).await.contains("configured"));
    let names = kubectl.ok("get deploy web -o 'jsonpath={.spec.template.spec.containers[*].name} {.spec.replicas} {.metadata.generation}'").await;
    assert_eq!(names, "c 3 2");
    kubectl.ok("scale deploy web --replicas=5").await;
    assert!(kubectl.ok("get deploy web").await.contains("0/5"));
    kubectl.ok("set image deploy/web c=agnhost:2.54").await;
    kubectl.ok("patch deploy web -p '{\"spec\":{\"template\":{\"spec\":{\"containers\":[{\"name\":\"c\",\"args\":[\"x\"]}]}}}}'").await;
    let container = kubectl.ok("get deploy web -o 'jsonpath={.spec.template.spec.containers[0].image} {.spec.template.spec.containers[0].args[0]}'").await;
    assert_eq!(container, "agnhost:2.54 x");
    assert!(kubectl.ok("describe deploy web").await.contains("RollingUpdateStrategy:"));
    let rollout = tokio::spawn({
        let child = kubectl.command("rollout status deploy/web --timeout=20s").spawn().unwrap();
        async move { child.wait_with_output().await.unwrap() }
    });
    let status = json!({"status": {"observedGeneration": 5, "replicas": 5, "updatedReplicas": 5, "readyReplicas": 5, "availableReplicas": 5,
        "conditions": [{"type": "Available", "status": "True"}]}});
    assert_eq!(server.merge("/apis/apps/v1/namespaces/default/deployments/web/status", &status).await.code, 200);
    let rollout = rollout.await.unwrap();
    assert!(String::from_utf8_lossy(&rollout.stdout).contains("successfully rolled out"), "{rollout:?}");
    kubectl.ok("wait --for=condition=Available deploy/web --timeout=10s").await;

    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: '1'}\n";
    kubectl.ok_with("apply --server-side --field-manager=one -f -", config).await;
    let other = config.replace("'1'", "'2'");
    let complaint = kubectl.fails("apply --server-side --field-manager=two -f -", &other).await;
    assert!(complaint.contains("conflict with \"one\"") && complaint.contains(".data.a"), "{complaint}");
    kubectl.ok_with("apply --server-side --field-manager=two --force-conflicts -f -", &other).await;
    kubectl.ok_with("apply --server-side -f -", DEPLOYMENT.replace("web", "web2").as_str()).await;
    assert!(
        kubectl
            .ok_with("apply --server-side --dry-run=server -f -", &DEPLOYMENT.replace("web", "web3"))
            .await
            .contains("dry run")
    );
    assert!(kubectl.fails("get deploy web3", "").await.contains("not found"));

    let strict = kubectl.fails("apply -f -", POLICY).await;
    assert!(strict.contains("strict decoding error: unknown field \"spec.ingres\""), "{strict}");
    let strict = kubectl.fails("create --validate=true -f -", POLICY).await;
    assert!(strict.contains("unknown field \"spec.ingres\""), "{strict}");
    let warned = kubectl.with_input("apply --validate=warn -f -", POLICY).await;
    assert!(warned.code == 0 && warned.err.contains("unknown field \"spec.ingres\""), "{}", warned.err);
    assert!(kubectl.ok("get netpol").await.contains("app=web"));
    assert!(kubectl.ok("describe netpol deny").await.contains("PodSelector:     app=web"));
    let pool = "apiVersion: crd.projectcalico.org/v1\nkind: IPPool\nmetadata: {name: p}\nspec: {cidr: 10.1.0.0/16, vxlanMode: Always}\n";
    assert!(kubectl.ok_with("apply -f -", pool).await.contains("created"));
    assert!(kubectl.ok_with("apply -f -", &pool.replace("Always", "CrossSubnet")).await.contains("configured"));
    assert!(kubectl.ok("get ippools -o yaml").await.contains("CrossSubnet"));
    assert!(kubectl.ok_with("delete -f -", pool).await.contains("deleted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn waits_and_watches_end_when_they_should() {
    let server = Server::start();
    let Some(kubectl) = Kubectl::find(&server).await else {
        return;
    };
    let kubelet = FakeKubelet::start(&server).await;
    running_pod(&server, &kubelet, "one").await;
    kubectl.ok("wait --for=condition=Ready pod/one --timeout=10s").await;
    kubectl.ok("wait --for=jsonpath={.status.phase}=Running pod/one --timeout=10s").await;
    let mut watch = kubectl.command("get pods -w --output-watch-events --request-timeout=2s").spawn().unwrap();
    // The kubelet's part of a deletion: once the pod is marked, it goes.
    let delete = kubectl.command("delete pod one --grace-period=5 --wait=true").spawn().unwrap();
    let waiting = kubectl.command("wait --for=delete pod/one --timeout=20s").spawn().unwrap();
    let mut changes = server.watch("/api/v1/namespaces/default/pods?watch=1&fieldSelector=metadata.name=one").await;
    while changes.next().await.unwrap()["object"]["metadata"]["deletionTimestamp"].is_null() {}
    assert!(kubectl.ok("get pod one").await.contains("Terminating"));
    let gone = server.delete("/api/v1/namespaces/default/pods/one?gracePeriodSeconds=0").await;
    assert_eq!(gone.code, 200, "{}", gone.text);
    assert!(delete.wait_with_output().await.unwrap().status.success());
    assert!(waiting.wait_with_output().await.unwrap().status.success());
    let mut out = watch.stdout.take().unwrap();
    let mut text = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut out, &mut text).await.unwrap();
    assert!(text.contains("ADDED") && text.contains("DELETED"), "{text}");
    watch.wait().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_can_be_talked_to() {
    let server = Server::start();
    let Some(kubectl) = Kubectl::find(&server).await else {
        return;
    };
    let kubelet = FakeKubelet::start(&server).await;
    running_pod(&server, &kubelet, "one").await;
    assert_eq!(kubectl.ok("logs one --tail=5").await, "log of default/one/c tailLines=5\n");
    assert_eq!(kubectl.ok("exec one -- echo a 'b c'").await, "ran [\"echo\", \"a\", \"b c\"]\n");
    assert_eq!(kubectl.ok_with("exec -i one -- cat", "some input").await, "some input");
    let done = kubectl.run("exec one -- exit 4").await;
    assert_eq!(done.code, 4, "{}", done.err);
    assert_eq!(kubectl.ok_with("attach -i one", "typed").await, "typed");
    assert!(kubectl.fails("logs one -c other", "").await.contains("container other is not valid for pod one"));
    assert!(kubectl.ok("describe node n1").await.contains("InternalIP"));
    assert!(kubectl.ok("get nodes -o wide").await.contains("127.0.0.1"));
    drop(kubelet);
    let complaint = kubectl.fails("logs one", "").await;
    assert!(complaint.contains("connect: connection refused"), "{complaint}");
}
