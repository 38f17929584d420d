//! What pods have logged: those of the CNI and of cluster DNS, those of the scenario, and those of the system that are
//! in trouble.

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use serde_json::Value;

use super::{Api, OwnPod, Piece, REQUEST, api, table};
use crate::cluster::objects::answer;

/// Lines of each log.
const LINES: i64 = 300;

/// More logs than these say no more.
const MOST: usize = 40;

/// The namespace of a cluster's own pods.
const SYSTEM: &str = "kube-system";

/// One container's log.
struct Log {
    namespace: String,
    pod: String,
    container: String,
    /// Of the container that ran before this one.
    previous: bool,
}

pub(super) async fn all(api: Api<'_>, own: &[OwnPod]) -> Vec<Piece> {
    let pods = match api::list(api, "v1", "Pod").await {
        Ok(pods) => pods,
        Err(why) => return vec![Piece::new("logs/all.txt", Err(why))],
    };
    let wanted = pods.iter().filter(|pod| is_wanted(api, pod, own));
    let logs: Vec<Log> = wanted.flat_map(of_pod).take(MOST).collect();
    join_all(logs.iter().map(|log| read(api, log))).await
}

fn is_wanted(api: Api<'_>, pod: &Value, own: &[OwnPod]) -> bool {
    let (namespace, name) = (pod["metadata"]["namespace"].as_str(), pod["metadata"]["name"].as_str());
    let (Some(namespace), Some(name)) = (namespace, name) else { return false };
    if own.iter().any(|own| own.namespace == namespace && own.name == name) {
        return true;
    }
    if namespace != SYSTEM && namespace != api.profile.namespace {
        return false;
    }
    let owners = pod["metadata"]["ownerReferences"].as_array().map_or(&[][..], Vec::as_slice);
    let agent = api.profile.daemon_set.as_deref();
    let is_agent = agent.is_some() && owners.iter().any(|owner| owner["name"].as_str() == agent);
    is_agent || name.starts_with("coredns") || is_in_trouble(pod)
}

/// A container of it does not run, or did not always.
fn is_in_trouble(pod: &Value) -> bool {
    let containers = table::statuses(pod, "containerStatuses");
    let troubled = |status: &Value| status["ready"] != true || status["restartCount"].as_u64() > Some(0);
    pod["status"]["phase"] != "Succeeded" && (containers.is_empty() || containers.iter().any(troubled))
}

/// The logs of its containers that have begun; of one that was started again also the one before.
fn of_pod(pod: &Value) -> Vec<Log> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let log = |status: &Value, previous| Log {
        namespace: text(&pod["metadata"]["namespace"]),
        pod: text(&pod["metadata"]["name"]),
        container: text(&status["name"]),
        previous,
    };
    let init = table::statuses(pod, "initContainerStatuses");
    // What has done its work has nothing to tell.
    let init = init.iter().filter(|status| status["state"]["terminated"]["exitCode"] != 0);
    let mut logs = Vec::new();
    for status in init.chain(table::statuses(pod, "containerStatuses")) {
        logs.push(log(status, false));
        if status["restartCount"].as_u64() > Some(0) {
            logs.push(log(status, true));
        }
    }
    logs
}

async fn read(api: Api<'_>, log: &Log) -> Piece {
    let Log { namespace, pod, container, previous } = log;
    let before = if *previous { ".before" } else { "" };
    let pods: kube::api::Api<Pod> = kube::api::Api::namespaced(api.client.clone(), namespace);
    let wanted = LogParams {
        container: Some(container.clone()),
        previous: *previous,
        tail_lines: Some(LINES),
        timestamps: true,
        ..LogParams::default()
    };
    let text = match tokio::time::timeout(REQUEST, pods.logs(pod, &wanted)).await {
        Ok(read) => read.map_err(|error| answer(&error)),
        Err(_) => Err(format!("no answer within {REQUEST:?}")),
    };
    Piece::new(format!("logs/{namespace}.{pod}.{container}{before}.log"), text)
}
