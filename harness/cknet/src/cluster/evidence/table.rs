//! Objects as tables, for eyes.

use serde_json::Value;

/// Rows in columns, two spaces apart; the last column is as long as it is.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(ToString::to_string).collect();
    let all: Vec<&Vec<String>> = std::iter::once(&head).chain(rows).collect();
    let width = |column: usize| all.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for row in all {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn word(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        // One object, one line.
        Value::String(text) => text.split_whitespace().collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

/// Pods of all namespaces with what they wait for.
pub(super) fn pods(pods: &[Value]) -> String {
    let rows: Vec<Vec<String>> = pods.iter().map(pod).collect();
    table(&["NAMESPACE", "NAME", "READY", "PHASE", "RESTARTS", "IP", "NODE", "WHY"], &rows)
}

fn pod(pod: &Value) -> Vec<String> {
    let containers = statuses(pod, "containerStatuses");
    let ready = containers.iter().filter(|status| status["ready"] == true).count();
    let restarts: u64 = containers.iter().filter_map(|status| status["restartCount"].as_u64()).sum();
    let init = statuses(pod, "initContainerStatuses");
    let mut why: Vec<String> = init.iter().chain(containers).filter_map(trouble).collect();
    let conditions = pod["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    let unmet = conditions.iter().filter(|condition| condition["status"] == "False" && !condition["message"].is_null());
    why.extend(unmet.map(|condition| format!("{}: {}", word(&condition["type"]), word(&condition["message"]))));
    let wanted = pod["spec"]["containers"].as_array().map_or(0, Vec::len);
    vec![
        word(&pod["metadata"]["namespace"]),
        word(&pod["metadata"]["name"]),
        format!("{ready}/{wanted}"),
        word(&pod["status"]["phase"]),
        restarts.to_string(),
        word(&pod["status"]["podIP"]),
        word(&pod["spec"]["nodeName"]),
        why.join("; "),
    ]
}

/// The states of a pod's containers of a kind.
pub(super) fn statuses<'p>(pod: &'p Value, kind: &str) -> &'p [Value] {
    pod["status"][kind].as_array().map_or(&[][..], Vec::as_slice)
}

/// Why a container does not run, or how it ended the last time.
fn trouble(status: &Value) -> Option<String> {
    let told = |state: &Value, how: &str| {
        let exit = state["exitCode"].as_i64().map_or(String::new(), |code| format!(" exit code {code}"));
        let message = state["message"].as_str().map_or(String::new(), |_| format!(" {}", word(&state["message"])));
        format!("{} {how} {}{exit}{message}", word(&status["name"]), word(&state["reason"]))
    };
    let (state, before) = (&status["state"], &status["lastState"]["terminated"]);
    if !state["waiting"].is_null() {
        Some(told(&state["waiting"], "waits:"))
    } else if state["terminated"].is_object() && state["terminated"]["exitCode"] != 0 {
        Some(told(&state["terminated"], "ended:"))
    } else {
        before.is_object().then(|| told(before, "ended before:"))
    }
}

/// Events by the time at which each was seen last.
pub(super) fn events(events: &[Value]) -> String {
    let seen = |event: &Value| {
        let times = [&event["lastTimestamp"], &event["series"]["lastObservedTime"], &event["eventTime"]];
        let made = event["metadata"]["creationTimestamp"].as_str();
        times.iter().find_map(|time| time.as_str()).or(made).unwrap_or_default().to_string()
    };
    let mut events: Vec<(String, &Value)> = events.iter().map(|event| (seen(event), event)).collect();
    events.sort_by(|one, other| one.0.cmp(&other.0));
    let rows = events.into_iter().map(|(seen, event)| {
        let about = &event["involvedObject"];
        let namespace = about["namespace"].as_str().map_or(String::new(), |namespace| format!("{namespace}/"));
        vec![
            seen,
            word(&event["type"]),
            word(&event["reason"]),
            format!("{} {namespace}{}", word(&about["kind"]), word(&about["name"])),
            event["count"].as_u64().unwrap_or(1).to_string(),
            word(&event["message"]),
        ]
    });
    table(&["SEEN", "TYPE", "REASON", "ABOUT", "COUNT", "MESSAGE"], &rows.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_says_what_it_waits_for() {
        let waiting = json!({"metadata": {"namespace": "kube-system", "name": "calico-node-x"},
            "spec": {"nodeName": "w1", "containers": [{"name": "calico-node"}]},
            "status": {"phase": "Pending", "containerStatuses": [{"name": "calico-node", "ready": false,
                "restartCount": 3, "state": {"waiting": {"reason": "ErrImagePull", "message": "no\nroute"}}}]}});
        let expected = "\
NAMESPACE    NAME           READY  PHASE    RESTARTS  IP  NODE  WHY
kube-system  calico-node-x  0/1    Pending  3         -   w1    calico-node waits: ErrImagePull no route
";
        assert_eq!(pods(&[waiting]), expected);
    }

    #[test]
    fn events_stand_in_the_order_of_time() {
        let event = |time: &str, message: &str| {
            json!({"lastTimestamp": time, "type": "Warning", "reason": "Failed", "count": 2, "message": message,
                "involvedObject": {"kind": "Pod", "namespace": "a", "name": "b"}})
        };
        let told = events(&[event("2026-01-01T00:00:02Z", "second"), event("2026-01-01T00:00:01Z", "first")]);
        let lines: Vec<&str> = told.lines().skip(1).collect();
        assert_eq!(lines[0], "2026-01-01T00:00:01Z  Warning  Failed  Pod a/b  2      first");
        assert!(lines[1].ends_with("second"), "{told}");
    }
}
