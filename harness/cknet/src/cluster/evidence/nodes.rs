//! What the machines know: their network as the kernel tells it, their packet rules, what was logged on them.

use std::sync::Arc;

use cknet_probe::facts::{Facts, FileFact};
use futures::FutureExt;
use tokio::sync::Semaphore;

use super::{COMMAND, Look, OwnPod, Piece, Scene};
use crate::distribution::{ClusterSpec, Tail};
use crate::provider::{Invocation, Node};

/// Programs that run on one machine at the same time: ways to machines take only so many, and what is asked should
/// not change what is seen.
const AT_ONCE: usize = 4;

/// What is wanted of the product's own logs: a file has room for more than a message.
const TAIL: Tail = Tail { lines: 300, within: COMMAND };

/// Where programs that were started on a machine log.
const LOGS: &str = "/run/cknet/log";

/// The kernel's table of connections, where it shows one.
const CONNECTIONS: &str = "/proc/net/nf_conntrack";

/// A machine that answers so many questions at a time.
#[derive(Clone)]
struct Asked<'a> {
    node: &'a dyn Node,
    turns: Arc<Semaphore>,
}

pub(super) fn looks<'a>(scene: &Scene<'a>) -> Vec<Look<'a>> {
    let mut looks = Vec::new();
    for (name, node) in &scene.nodes.by_name {
        let asked = Asked { node: &**node, turns: Arc::new(Semaphore::new(AT_ONCE)) };
        looks.extend(of_network(name, &asked));
        looks.extend(scene.pods.iter().filter_map(|pod| of_pod(name, pod, &asked)));
        let services = asked.clone();
        let path = format!("nodes/{name}/log");
        looks.push(Look {
            pieces: async move { services.logs(&path).await }.boxed(),
            path: format!("nodes/{name}/log"),
        });
        looks.extend(of_distribution(scene, name));
    }
    looks
}

/// What decides where packets go.
fn of_network<'a>(name: &str, asked: &Asked<'a>) -> Vec<Look<'a>> {
    let path = |file: &str| format!("nodes/{name}/{file}");
    let (facts, drops, rules, tables, connections) =
        (asked.clone(), asked.clone(), asked.clone(), asked.clone(), asked.clone());
    vec![
        Look::one(path("facts.json"), async move { facts.says(&["cknet", "facts"]).await }),
        Look::one(path("drops.json"), async move { drops.says(&["cknet", "drops"]).await }),
        Look::one(path("rules.txt"), async move { rules.rules().await }),
        Look::one(path("iptables.txt"), async move { tables.says(&["iptables-save", "--counters"]).await }),
        Look::one(path("conntrack.txt"), async move { connections.connections().await }),
    ]
}

/// The network of a pod of the scenario.
fn of_pod<'a>(name: &str, pod: &OwnPod, asked: &Asked<'a>) -> Option<Look<'a>> {
    let (node, network) = pod.network.as_ref()?;
    if node != name {
        return None;
    }
    let (asked, network) = (asked.clone(), network.clone());
    let path = format!("nodes/{name}/pods/{}.{}.json", pod.namespace, pod.name);
    Some(Look::one(path, async move { asked.says(&["cknet", "facts", "--all", "--netns", &network]).await }))
}

/// What the product's own programs say there; asked for node by node, so that one that hangs costs only its own.
fn of_distribution<'a>(scene: &Scene<'a>, name: &str) -> Option<Look<'a>> {
    let member = scene.spec.members.iter().find(|member| member.name == name)?;
    let alone = ClusterSpec { members: vec![member.clone()], ..scene.spec.clone() };
    let path = format!("nodes/{name}/{}.txt", scene.distribution.name());
    let (told, nodes, distribution) = (path.clone(), scene.nodes, scene.distribution);
    let pieces = async move {
        let said = distribution.evidence(nodes, &alone, TAIL).await;
        if said.is_empty() { Vec::new() } else { vec![Piece::new(told, Ok(said))] }
    };
    Some(Look { path, pieces: pieces.boxed() })
}

impl Asked<'_> {
    /// What a program says.
    async fn says(&self, argv: &[&str]) -> Result<String, String> {
        // The semaphore is never closed.
        let _turn = self.turns.acquire().await.map_err(|error| error.to_string())?;
        let output = self.node.run(Invocation::new(argv.iter().copied()), COMMAND).await;
        let output = output.map_err(|error| error.to_string())?;
        if output.succeeded() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(format!("`{}` ended with {}: {}", argv.join(" "), output.exit, output.complaint()))
    }

    async fn file(&self, path: &str) -> Result<String, String> {
        let _turn = self.turns.acquire().await.map_err(|error| error.to_string())?;
        let content = tokio::time::timeout(COMMAND, self.node.take(path)).await;
        let content = content.map_err(|_| format!("`{path}` could not be read within {COMMAND:?}"))?;
        content.map(|content| String::from_utf8_lossy(&content).into_owned()).map_err(|error| error.to_string())
    }

    /// The rules that packets meet, as `nft` words them where it is there.
    async fn rules(&self) -> Result<String, String> {
        match self.says(&["nft", "list", "ruleset"]).await {
            Ok(rules) => Ok(rules),
            Err(_) => self.says(&["cknet", "ruleset"]).await,
        }
    }

    async fn connections(&self) -> Result<String, String> {
        match self.says(&["conntrack", "--dump", "--output", "extended"]).await {
            Ok(connections) => Ok(connections),
            Err(program) => {
                // Through a program in the node's own network: what this file shows depends on who reads it.
                let files = self.files(CONNECTIONS).await.map_err(|why| format!("{program}; {why}"))?;
                let shown = files.into_iter().find_map(|file| file.text);
                shown.ok_or_else(|| format!("{program}; there is no `{CONNECTIONS}`"))
            }
        }
    }

    /// The file of that path, or those right in the folder.
    async fn files(&self, path: &str) -> Result<Vec<FileFact>, String> {
        let told = self.says(&["cknet", "facts", "files", "--file", path]).await?;
        let facts: Facts = serde_json::from_str(&told).map_err(|error| error.to_string())?;
        Ok(facts.files.into_iter().filter(|file| file.exists).collect())
    }

    /// What the programs that were started on it have logged.
    async fn logs(&self, folder: &str) -> Vec<Piece> {
        let files = match self.files(LOGS).await {
            Ok(files) => files,
            Err(why) => return vec![Piece::new(format!("{folder}/all.log"), Err(why))],
        };
        let files = files.into_iter().filter(|file| file.size > 0);
        let read = files.map(|file| async move {
            let name = file.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Piece::new(format!("{folder}/{name}"), self.file(&file.path.to_string_lossy()).await)
        });
        futures::future::join_all(read).await
    }
}
