//! Two implementations that check each other: what the oracle predicts for drawn policies, and what packets do on a
//! live reference cluster.
//!
//! `CKNET_EQUIVALENCE=N` tries N sets of policies instead of 25, `CKNET_SEED=S` begins with the set of that seed. A
//! difference is made as small as possible and told with the flow, the oracle's reason, the policies and the seed.
//! A trial whose needs are missing is reported as ignored with the reason, unless `CKNET_REQUIRE` names `netns`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cknet::cluster::Cluster;
use cknet::cluster::objects::{Coordinates, coordinates};
use cknet::cluster::workloads::{self, PlacedPod};
use cknet::distribution::reference::Reference;
use cknet::judge::outcome_of;
use cknet::plan::cluster_of;
use cknet::provider::Provider;
use cknet::provider::netns::Netns;
use cknet::scenario::model::Outcome;
use cknet::scenario::{Fixtures, Profile, Scenario, check, load_bytes};
use cknet::vantage::{Place, Question, Vantage};
use cknet_oracle::{self as oracle, Endpoint, Flow, Oracle, Prediction, Snapshot, Verdict};
use cknet_probe::wire::{Expect, Observation, Sight, Target};
use kube::api::Patch;
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::{Value, json};

const SETS: u64 = 25;

/// Longest time in which a set of policies must take effect.
const EFFECT: Duration = Duration::from_secs(5);

/// The same while a difference is made smaller.
const EFFECT_WHILE_SHRINKING: Duration = Duration::from_millis(1500);

/// Longest time for making a difference smaller.
const SHRINKING: Duration = Duration::from_secs(90);

const NAMESPACES: [&str; 3] = ["red", "green", "blue"];

const PORTS: [(u16, oracle::Protocol); 6] = [
    (80, oracle::Protocol::Tcp),
    (81, oracle::Protocol::Tcp),
    (8080, oracle::Protocol::Tcp),
    (53, oracle::Protocol::Udp),
    (80, oracle::Protocol::Udp),
    (80, oracle::Protocol::Sctp),
];

fn main() {
    let provider = Netns { executable: PathBuf::new(), folder: PathBuf::new() };
    let missing: Vec<String> = provider.preflight().into_iter().map(|finding| finding.what).collect();
    let required = std::env::var("CKNET_REQUIRE").is_ok_and(|list| list.split(',').any(|need| need == "netns"));
    let why = if missing.is_empty() { String::new() } else { format!(" [needs: {}]", missing.join("; ")) };
    let equivalence = Trial::test(format!("packets_do_what_the_oracle_predicts{why}"), || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(equivalence()).map_err(Failed::from)
    });
    let trials = vec![
        equivalence.with_ignored_flag(!missing.is_empty() && !required),
        Trial::test("drawn_policies_are_valid_and_show_something", || {
            drawn_policies_show_something();
            Ok(())
        }),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

async fn equivalence() -> Result<(), String> {
    let sets = number("CKNET_EQUIVALENCE").unwrap_or(SETS);
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let first = number("CKNET_SEED").unwrap_or_else(clock);
    eprintln!("{sets} sets of policies, the first with CKNET_SEED={first}");
    let folder = tempfile::tempdir().unwrap();
    let mut lab = Lab::make(folder.path()).await;
    let mut slowest = Duration::ZERO;
    for seed in first..first + sets {
        let policies = draw(seed, &lab.addresses());
        let started = Instant::now();
        if let Err(difference) = lab.agrees(&policies, EFFECT).await {
            eprintln!("CKNET_SEED={seed}: {difference}\nmaking it smaller");
            let (policies, difference) = lab.shrink(policies, difference).await;
            let live = lab.live().await;
            lab.cluster.destroy().await.unwrap();
            let yaml: Vec<String> = policies.iter().map(|policy| serde_saphyr::to_string(policy).unwrap()).collect();
            return Err(format!("CKNET_SEED={seed}: {difference}\n{}\nin the API:\n{live}", yaml.join("---\n")));
        }
        slowest = slowest.max(started.elapsed());
    }
    lab.cluster.destroy().await.unwrap();
    eprintln!("{sets} sets agree; the slowest took {slowest:?}");
    Ok(())
}

/// One probe and the same flow in the oracle's words.
struct Cell {
    question: Question,
    flow: Flow,
    name: String,
}

struct Lab {
    cluster: Cluster,
    pods: Vec<(String, PlacedPod)>,
    cells: Vec<Cell>,
    /// Everything but policies, as the API tells it.
    snapshot: Snapshot,
    applied: BTreeSet<Coordinates>,
}

impl Lab {
    async fn make(folder: &Path) -> Self {
        let ports = ports();
        let scenario = scenario(ports);
        let (topology, spec) = cluster_of(&scenario).unwrap();
        let provider = Netns { executable: env!("CARGO_BIN_EXE_cknet").into(), folder: folder.into() };
        let cluster = Cluster::create(&provider, &Reference, "equivalence", &topology, &spec).await.unwrap();
        let (placed, _) = workloads::create(&cluster, &scenario).await.unwrap();
        let pods = placed.pods.into_iter().map(|(name, pod)| (name.to_string(), pod)).collect();
        let snapshot = snapshot(&cluster).await;
        let mut lab = Self { cluster, pods, cells: Vec::new(), snapshot, applied: BTreeSet::new() };
        lab.cells = lab.all_cells(ports);
        lab.positive_control().await;
        lab
    }

    fn addresses(&self) -> Vec<IpAddr> {
        self.pods.iter().map(|(_, pod)| pod.address).collect()
    }

    /// From every pod and every node to every pod on every port.
    fn all_cells(&self, ports: &[(u16, oracle::Protocol)]) -> Vec<Cell> {
        let of_pods = self.pods.iter().map(|(name, pod)| {
            let vantage = Vantage { node: pod.node.clone(), place: Place::Pod { uid: pod.uid.clone().unwrap() } };
            (format!("{}/{name}", pod.namespace), vantage, Endpoint::pod(&pod.namespace, name))
        });
        let of_nodes = self.cluster.nodes.by_name.keys().map(|node| {
            let vantage = Vantage { node: node.clone(), place: Place::Node };
            (format!("node:{node}"), vantage, Endpoint::Node(node.clone()))
        });
        let mut cells = Vec::new();
        for (from, vantage, endpoint) in of_pods.chain(of_nodes) {
            for (name, pod) in &self.pods {
                for (port, protocol) in ports {
                    let to = oracle::Target::pod(&pod.namespace, name);
                    cells.push(Cell {
                        question: Question { from: vantage.clone(), target: target((pod.address, *port), *protocol) },
                        flow: Flow::over(*protocol, endpoint.clone(), to, *port),
                        name: format!("{from} -> {}/{name} {port}/{protocol}", pod.namespace),
                    });
                }
            }
        }
        cells
    }

    /// Without policies everything answers.
    async fn positive_control(&self) {
        let started = Instant::now();
        loop {
            let seen = self.ask().await;
            let silent = self.cells.iter().zip(&seen).find(|(_, seen)| seen.sight != Sight::Answered);
            let Some((cell, seen)) = silent else {
                self.cluster.prober.calibrate(&self.questions()).await.unwrap();
                return;
            };
            let waited = started.elapsed();
            assert!(waited < Duration::from_secs(20), "without policies {}: {:?}", cell.name, seen.sight);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn ask(&self) -> Vec<Observation> {
        self.cluster.prober.ask(&self.questions()).await.unwrap()
    }

    fn questions(&self) -> Vec<Question> {
        self.cells.iter().map(|cell| cell.question.clone()).collect()
    }

    /// Puts exactly these policies in force and compares until all cells agree twice in a row.
    async fn agrees(&mut self, policies: &[Value], effect: Duration) -> Result<(), String> {
        self.put(policies).await;
        let predictions = self.predict(policies);
        let started = Instant::now();
        let mut agreed = false;
        loop {
            let begun = started.elapsed();
            let differences = self.differences(&predictions).await;
            if differences.is_empty() && std::mem::replace(&mut agreed, true) {
                return Ok(());
            }
            if !differences.is_empty() {
                agreed = false;
                if begun >= effect {
                    let shown: Vec<&str> = differences.iter().take(5).map(String::as_str).collect();
                    let count = differences.len();
                    return Err(format!("{count} cells differ for {effect:?}, such as\n  {}", shown.join("\n  ")));
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    fn predict(&self, policies: &[Value]) -> Vec<Prediction> {
        let mut snapshot = self.snapshot.clone();
        snapshot.policies = policies
            .iter()
            .map(|policy| serde_json::from_value(policy.clone()).expect("a drawn policy is valid"))
            .collect();
        let oracle = Oracle::new(&snapshot, oracle::Profile::calico());
        self.cells.iter().map(|cell| oracle.predict(&cell.flow).unwrap()).collect()
    }

    async fn differences(&self, predictions: &[Prediction]) -> Vec<String> {
        let seen = self.ask().await;
        let compared = self.cells.iter().zip(predictions).zip(&seen).filter_map(|((cell, prediction), seen)| {
            let outcome = outcome_of(seen, true);
            let same = match (&prediction.expected, &outcome) {
                (Verdict::Allowed, Ok(outcome)) => *outcome == Outcome::Allowed,
                (Verdict::Denied, Ok(outcome)) => matches!(outcome, Outcome::Dropped | Outcome::Rejected),
                _ => false,
            };
            let seen = outcome.map_or_else(|why| why, |outcome| outcome.word().to_string());
            (!same).then(|| format!("{}: {seen}, but {prediction}", cell.name))
        });
        compared.collect()
    }

    /// Policies keep their names from set to set, so that updates are tried as well. An update replaces the whole
    /// spec: server-side apply would leave defaults of the policy before it in place.
    async fn put(&mut self, policies: &[Value]) {
        let now: BTreeSet<Coordinates> = policies.iter().map(|policy| coordinates(policy).unwrap()).collect();
        let gone = self.applied.difference(&now).map(|at| self.cluster.objects.delete(at));
        for deleted in futures::future::join_all(gone).await {
            deleted.unwrap();
        }
        let written = policies.iter().map(|policy| async {
            let at = coordinates(policy).unwrap();
            if !self.applied.contains(&at) {
                return self.cluster.objects.apply(policy).await.map(drop);
            }
            let replace = json!([{"op": "replace", "path": "/spec", "value": policy["spec"]}]);
            self.cluster.objects.patch(&at, &Patch::Json(serde_json::from_value(replace).unwrap())).await
        });
        for done in futures::future::join_all(written).await {
            done.unwrap();
        }
        self.applied = now;
    }

    /// The policies as the API has them, for the case that it is the API that is wrong.
    async fn live(&self) -> String {
        let live = self.cluster.objects.list("networking.k8s.io/v1", "NetworkPolicy", None, None).await.unwrap();
        let line = |policy: &Value| format!("{} {}", policy["metadata"]["name"], policy["spec"]);
        live.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// Takes parts of policies away for as long as a difference is left.
    async fn shrink(&mut self, policies: Vec<Value>, difference: String) -> (Vec<Value>, String) {
        let started = Instant::now();
        let mut smallest = (policies, difference);
        'smaller: while started.elapsed() < SHRINKING {
            for candidate in smaller(&smallest.0) {
                if let Err(difference) = self.agrees(&candidate, EFFECT_WHILE_SHRINKING).await {
                    smallest = (candidate, difference);
                    continue 'smaller;
                }
            }
            break;
        }
        smallest
    }
}

/// The set without one policy, one rule, one peer or one port.
fn smaller(policies: &[Value]) -> Vec<Vec<Value>> {
    let mut sets = Vec::new();
    for index in 0..policies.len() {
        let mut fewer = policies.to_vec();
        fewer.remove(index);
        sets.push(fewer);
    }
    for (index, policy) in policies.iter().enumerate() {
        let mut lists = Vec::new();
        for (side, peers) in [("ingress", "from"), ("egress", "to")] {
            lists.push(format!("/spec/{side}"));
            for rule in 0..policy["spec"][side].as_array().map_or(0, Vec::len) {
                lists.push(format!("/spec/{side}/{rule}/{peers}"));
                lists.push(format!("/spec/{side}/{rule}/ports"));
            }
        }
        for list in lists {
            let length = policy.pointer(&list).and_then(Value::as_array).map_or(0, Vec::len);
            // An empty list of peers or ports means the opposite of a short one.
            let shortest = if list.matches('/').count() > 2 { 1 } else { 0 };
            for item in 0..if length > shortest { length } else { 0 } {
                let mut set = policies.to_vec();
                set[index].pointer_mut(&list).and_then(Value::as_array_mut).unwrap().remove(item);
                sets.push(set);
            }
        }
    }
    sets
}

fn target((address, port): (IpAddr, u16), protocol: oracle::Protocol) -> Target {
    let address = (address, port).into();
    match protocol {
        oracle::Protocol::Udp => Target::Udp { address, payload: 0 },
        oracle::Protocol::Sctp => Target::Sctp { address, expect: Expect::Echo },
        _ => Target::Tcp { address, expect: Expect::Echo },
    }
}

/// The ports that are probed: all of them, or those of the protocols that this kernel has, which is told.
fn ports() -> &'static [(u16, oracle::Protocol)] {
    use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
    match socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), SockProtocol::Sctp) {
        Ok(_) => &PORTS,
        Err(error) => {
            eprintln!("no SCTP on this kernel ({error}): its port is left out");
            &PORTS[..PORTS.len() - 1]
        }
    }
}

/// Namespaces, nodes and pods as the API tells them.
async fn snapshot(cluster: &Cluster) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for kind in ["Namespace", "Node", "Pod"] {
        for mut object in cluster.objects.list("v1", kind, None, None).await.unwrap() {
            object["kind"] = json!(kind);
            snapshot.extend([serde_json::from_value::<oracle::Object>(object).unwrap()]);
        }
    }
    snapshot
}

/// Nine pods in three namespaces on two nodes. The same name of a port means different ports on different pods.
fn scenario(ports: &[(u16, oracle::Protocol)]) -> Scenario {
    let mut text = String::from(
        r#"
apiVersion: cknet/v1
kind: Scenario
metadata: {id: policy.equivalence, title: Nine pods, kind: integration, severity: minor, docs: canonical-kubernetes-networking.md#pattern-3-networkpolicy-enforcement}
requires: {capabilities: [overlay, network-policy]}
topology:
  segments: {lan: {cidr: 192.168.60.0/24}}
  nodes: {cp1: {role: control-plane, nics: {eth0: lan}}, w1: {role: worker, nics: {eth0: lan}}}
namespaces: {red: {labels: {team: a}}, green: {labels: {team: b, zone: inner}}, blue: {}}
phases: [{id: only, expect: [{id: nodes, nodes: {all: Ready}}]}]
sabotage: [{id: closed, do: {extraStep: {before: only, step: {link: {node: w1, nic: eth0, set: down}}}}, mustFail: only/nodes}]
workloads:
"#,
    );
    let labels = ["{app: web}", "{app: db, tier: x}", "{tier: y}"];
    let names = ["{http: 80/tcp, dns: 53/udp}", "{http: 8080/tcp}", "{http: 80/udp, dns: 81/tcp}"];
    let listen: Vec<String> =
        ports.iter().map(|(port, protocol)| format!("{port}/{protocol}").to_lowercase()).collect();
    for (index, namespace) in NAMESPACES.iter().enumerate() {
        for number in 0..3 {
            let node = ["cp1", "w1"][(index + number) % 2];
            text.push_str(&format!(
                "  {namespace}-{number}: {{node: {node}, namespace: {namespace}, labels: {}, listen: [{}], namedPorts: {}}}\n",
                labels[number],
                listen.join(", "),
                names[(index + number) % 3],
            ));
        }
    }
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let fixtures = Fixtures::open(&repository.join("fixtures"), Profile::embedded("reference").unwrap().unwrap());
    let fixtures = fixtures.unwrap_or_else(|wrong| panic!("{wrong}"));
    let file =
        load_bytes(text, "scenarios/policy/equivalence.yaml", &fixtures).unwrap_or_else(|wrong| panic!("{wrong}"));
    check(vec![file], &fixtures).unwrap_or_else(|wrong| panic!("{wrong}")).remove(0)
}

/// Drawn policies must be valid, and deny and allow enough for an agreement to mean something.
fn drawn_policies_show_something() {
    let addresses: Vec<IpAddr> = (1..=9).map(|host| IpAddr::from([10, 1, 0, host])).collect();
    let mut shapes = BTreeSet::new();
    for seed in 0..200 {
        for policy in draw(seed, &addresses) {
            let read = serde_json::from_value::<oracle::NetworkPolicy>(policy.clone());
            read.unwrap_or_else(|error| panic!("seed {seed}: {error}\n{policy:#}"));
            let text = policy.to_string();
            let words = [
                "podSelector",
                "namespaceSelector",
                "ipBlock",
                "except",
                "endPort",
                "\"http\"",
                "SCTP",
                "UDP",
                "NotIn",
                "DoesNotExist",
                "\"egress\":[",
                "\"ingress\":[]",
                "\"Egress\"",
                "[{}]",
            ];
            shapes.extend(words.into_iter().filter(|word| text.contains(word)));
        }
    }
    assert_eq!(shapes.len(), 14, "some kinds of policies are never drawn: {shapes:?}");
}

/// A stream of numbers from a seed (SplitMix64: Steele, Lea, Flood 2014).
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    fn list(&mut self, shortest: usize, longest: usize, mut one: impl FnMut(&mut Self) -> Value) -> Value {
        let length = shortest + self.below(longest + 1 - shortest);
        (0..length).map(|_| one(self)).collect()
    }
}

fn draw(seed: u64, addresses: &[IpAddr]) -> Vec<Value> {
    let mut draw = Draw(seed);
    let mut names = BTreeSet::new();
    for _ in 0..=draw.below(4) {
        names.insert((draw.pick(&NAMESPACES), draw.below(3)));
    }
    let policy = |(namespace, number)| {
        json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": format!("p{number}"), "namespace": namespace},
            "spec": spec(&mut draw, addresses),
        })
    };
    names.into_iter().map(policy).collect()
}

fn spec(draw: &mut Draw, addresses: &[IpAddr]) -> Value {
    let mut spec = json!({"podSelector": selector(draw)});
    for (side, peers) in [("ingress", "from"), ("egress", "to")] {
        if !draw.one_in(3) {
            spec[side] = draw.list(0, 2, |draw| rule(draw, peers, addresses));
        }
    }
    match draw.below(4) {
        0 => spec["policyTypes"] = json!(["Ingress"]),
        1 => spec["policyTypes"] = json!(["Egress"]),
        2 => spec["policyTypes"] = json!(["Ingress", "Egress"]),
        _ => {}
    }
    spec
}

fn rule(draw: &mut Draw, peers: &str, addresses: &[IpAddr]) -> Value {
    let mut rule = json!({});
    if !draw.one_in(4) {
        rule[peers] = draw.list(0, 3, |draw| peer(draw, addresses));
    }
    if !draw.one_in(3) {
        rule["ports"] = draw.list(0, 3, port);
    }
    rule
}

fn peer(draw: &mut Draw, addresses: &[IpAddr]) -> Value {
    match draw.below(4) {
        0 => json!({"podSelector": selector(draw)}),
        1 => json!({"namespaceSelector": selector(draw)}),
        2 => json!({"namespaceSelector": selector(draw), "podSelector": selector(draw)}),
        _ => json!({"ipBlock": block(draw, addresses)}),
    }
}

fn block(draw: &mut Draw, addresses: &[IpAddr]) -> Value {
    let network = |draw: &mut Draw, length: u8| {
        let address = addresses[draw.below(addresses.len())];
        ipnet::IpNet::new(address, length).unwrap().trunc()
    };
    let length = [0, 16, 26, 30, 32][draw.below(5)];
    let cidr = network(draw, length);
    let mut block = json!({"cidr": cidr});
    if draw.one_in(2) {
        let excepted = draw.list(0, 2, |draw| {
            let length = [26, 29, 31, 32][draw.below(4)];
            json!(network(draw, length))
        });
        // The API takes strict subsets only.
        let inside = |except: &&Value| {
            let except: ipnet::IpNet = except.as_str().unwrap().parse().unwrap();
            cidr.contains(&except) && cidr != except
        };
        block["except"] = excepted.as_array().unwrap().iter().filter(inside).cloned().collect();
    }
    block
}

fn selector(draw: &mut Draw) -> Value {
    let key = draw.pick(&["app", "tier", "team", "zone", "kubernetes.io/metadata.name"]);
    match draw.below(6) {
        0 | 1 => json!({}),
        2 => json!({"matchLabels": {"app": draw.pick(&["web", "db"])}}),
        3 => json!({"matchLabels": {"team": draw.pick(&["a", "b"])}}),
        4 => json!({"matchExpressions": [{"key": key, "operator": draw.pick(&["Exists", "DoesNotExist"])}]}),
        _ => {
            let values = ["web", "a", "x", draw.pick(&NAMESPACES)];
            json!({"matchExpressions": [{"key": key, "operator": draw.pick(&["In", "NotIn"]), "values": values}]})
        }
    }
}

fn port(draw: &mut Draw) -> Value {
    let mut port = match draw.below(6) {
        0 => json!({}),
        1 | 2 => json!({"port": draw.pick(&["http", "dns", "nobody"])}),
        3 => json!({"port": 80, "endPort": ([80, 81, 8079, 8080][draw.below(4)])}),
        _ => json!({"port": ([53, 80, 81, 8080][draw.below(4)])}),
    };
    if !draw.one_in(3) {
        port["protocol"] = json!(draw.pick(&["TCP", "UDP", "SCTP"]));
    }
    port
}
