//! The row of a pod: the one kind whose cells are computed from many fields.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{age, since};

pub(super) fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let summary = summarise(pod);
    let total = list(&pod["spec"]["containers"]).len() + sidecars(pod);
    let or_none = |value: &Value| json!(value.as_str().filter(|text| !text.is_empty()).unwrap_or("<none>"));
    vec![
        pod["metadata"]["name"].clone(),
        json!(format!("{}/{total}", summary.ready)),
        json!(summary.reason),
        json!(restarts(&summary, now)),
        json!(age(pod, now)),
        or_none(&pod["status"]["podIP"]),
        or_none(&pod["spec"]["nodeName"]),
        or_none(&pod["status"]["nominatedNodeName"]),
        json!(gates(pod)),
    ]
}

#[derive(Default)]
struct Summary {
    reason: String,
    ready: usize,
    restarts: i64,
    last_restart: Option<String>,
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn restarts(summary: &Summary, now: Timestamp) -> String {
    match &summary.last_restart {
        Some(at) if summary.restarts > 0 => {
            format!("{} ({} ago)", summary.restarts, since(&json!(at), now))
        }
        _ => summary.restarts.to_string(),
    }
}

fn is_sidecar(container: &Value) -> bool {
    container["restartPolicy"] == "Always"
}

fn sidecars(pod: &Value) -> usize {
    list(&pod["spec"]["initContainers"]).iter().filter(|container| is_sidecar(container)).count()
}

fn condition<'a>(pod: &'a Value, kind: &str) -> Option<&'a Value> {
    list(&pod["status"]["conditions"]).iter().find(|condition| condition["type"] == kind)
}

fn holds(pod: &Value, kind: &str) -> bool {
    condition(pod, kind).is_some_and(|condition| condition["status"] == "True")
}

fn note_restarts(summary: &mut Summary, status: &Value) {
    summary.restarts += status["restartCount"].as_i64().unwrap_or(0);
    let ended = status["lastState"]["terminated"]["finishedAt"].as_str().map(str::to_owned);
    summary.last_restart = summary.last_restart.take().max(ended);
}

fn terminated_reason(terminated: &Value) -> String {
    match terminated["reason"].as_str().filter(|reason| !reason.is_empty()) {
        Some(reason) => reason.to_owned(),
        None => match terminated["signal"].as_i64().filter(|signal| *signal != 0) {
            Some(signal) => format!("Signal:{signal}"),
            None => format!("ExitCode:{}", terminated["exitCode"]),
        },
    }
}

fn summarise(pod: &Value) -> Summary {
    let status = &pod["status"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut summary = Summary { reason: text(&status["phase"]), ..Summary::default() };
    if status["reason"].as_str().is_some_and(|reason| !reason.is_empty()) {
        summary.reason = text(&status["reason"]);
    }
    if condition(pod, "PodScheduled").is_some_and(|condition| condition["reason"] == "SchedulingGated") {
        "SchedulingGated".clone_into(&mut summary.reason);
    }
    let initializing = init_containers(pod, &mut summary);
    if !initializing || holds(pod, "Initialized") {
        containers(pod, &mut summary);
    }
    let terminal = status["phase"] == "Succeeded" || status["phase"] == "Failed";
    if pod["metadata"]["deletionTimestamp"].is_string() {
        if status["reason"] == "NodeLost" {
            "Unknown".clone_into(&mut summary.reason);
        } else if !terminal {
            "Terminating".clone_into(&mut summary.reason);
        }
    }
    summary
}

/// Tells whether init containers are still at work, and puts how far they are into the summary.
fn init_containers(pod: &Value, summary: &mut Summary) -> bool {
    let specs = list(&pod["spec"]["initContainers"]);
    for (index, status) in list(&pod["status"]["initContainerStatuses"]).iter().enumerate() {
        note_restarts(summary, status);
        let state = &status["state"];
        let sidecar = specs.iter().any(|spec| spec["name"] == status["name"] && is_sidecar(spec));
        if state["terminated"]["exitCode"] == 0 {
            continue;
        }
        if sidecar && status["started"] == true {
            summary.ready += usize::from(status["ready"] == true);
            continue;
        }
        let waiting = state["waiting"]["reason"].as_str().unwrap_or_default();
        summary.reason = if state["terminated"].is_object() {
            format!("Init:{}", terminated_reason(&state["terminated"]))
        } else if !waiting.is_empty() && waiting != "PodInitializing" {
            format!("Init:{waiting}")
        } else {
            format!("Init:{index}/{}", specs.len())
        };
        return true;
    }
    false
}

fn containers(pod: &Value, summary: &mut Summary) {
    summary.restarts = 0;
    let mut running = false;
    for status in list(&pod["status"]["containerStatuses"]).iter().rev() {
        note_restarts(summary, status);
        let state = &status["state"];
        if let Some(reason) = state["waiting"]["reason"].as_str().filter(|reason| !reason.is_empty()) {
            reason.clone_into(&mut summary.reason);
        } else if state["terminated"].is_object() {
            summary.reason = terminated_reason(&state["terminated"]);
        } else if status["ready"] == true && state["running"].is_object() {
            running = true;
            summary.ready += 1;
        }
    }
    if summary.reason == "Completed" && running {
        summary.reason = if holds(pod, "Ready") { "Running" } else { "NotReady" }.to_owned();
    }
}

fn gates(pod: &Value) -> String {
    let gates = list(&pod["spec"]["readinessGates"]);
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let met = gates.iter().filter(|gate| holds(pod, gate["conditionType"].as_str().unwrap_or_default())).count();
    format!("{met}/{}", gates.len())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(json!({"status": {"phase": "Pending"}}), "Pending")]
    #[case(json!({"status": {"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull"}}}]}}), "ErrImagePull")]
    #[case(json!({"status": {"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "PodInitializing"}}}],
        "initContainerStatuses": [{"state": {"running": {}}}]}, "spec": {"initContainers": [{}, {}]}}), "Init:0/2")]
    #[case(json!({"metadata": {"deletionTimestamp": "x"}, "status": {"phase": "Running"}}), "Terminating")]
    #[case(json!({"status": {"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 3}}}]}}), "ExitCode:3")]
    #[case(json!({"status": {"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 1, "reason": "Error"}}}]}}), "Error")]
    fn the_status_cell_says_what_matters_most(#[case] pod: Value, #[case] expected: &str) {
        assert_eq!(summarise(&pod).reason, expected);
    }
}
