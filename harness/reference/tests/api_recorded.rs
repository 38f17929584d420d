//! Replays what was recorded from a real cluster: refusals word for word, and the tables that `kubectl get` prints.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod api_support;

use api_support::{Server, TOKEN, whole};
use serde_json::{Value, json};

/// A recorded exchange.
struct Recorded {
    method: String,
    media: String,
    body: String,
    path: String,
    anonymous: bool,
    code: u16,
    answer: Value,
}

fn parse(name: &str, text: &str) -> Recorded {
    let code = text.lines().rev().find_map(|line| line.strip_prefix("HTTP ")).unwrap().trim().parse().unwrap();
    let first = text.lines().next().unwrap();
    let request = first.strip_prefix("# ").map(str::trim);
    let body_text: String = text
        .lines()
        .filter(|line| !line.starts_with("# ") && !line.starts_with("HTTP "))
        .collect::<Vec<_>>()
        .join("\n");
    let answer = serde_json::from_str(&body_text).unwrap();
    // Two were recorded without their request.
    let Some(request) = request else {
        assert!(matches!(name, "anonymous.txt" | "wrong-token.txt"), "{name}");
        return Recorded {
            method: "GET".into(),
            media: String::new(),
            body: String::new(),
            path: "/api/v1/pods".into(),
            anonymous: name == "anonymous.txt",
            code,
            answer,
        };
    };
    let (rest, path) = request.rsplit_once(' ').unwrap_or(("", request));
    let (options, body) = rest.split_once("-d ").unwrap_or((rest, ""));
    let words: Vec<&str> = options.split_whitespace().collect();
    let method = words.iter().position(|word| *word == "-X").map_or("GET", |at| words[at + 1]);
    let media = words.iter().find(|word| word.contains('/')).copied().unwrap_or_default();
    Recorded {
        method: method.into(),
        media: media.into(),
        body: body.trim().into(),
        path: path.into(),
        anonymous: words.contains(&"--cert"),
        code,
        answer,
    }
}

/// Takes out what differs from one run to the next.
fn lasting(mut answer: Value) -> Value {
    if answer["kind"] == "Status" {
        return answer;
    }
    let meta = answer["metadata"].as_object_mut().unwrap();
    meta.remove("uid");
    meta.remove("creationTimestamp");
    for entry in meta["managedFields"].as_array_mut().unwrap() {
        entry["time"] = Value::Null;
    }
    answer
}

#[tokio::test]
async fn refusals_are_word_for_word_those_of_a_real_server() {
    let server = Server::start();
    server.post("/api/v1/namespaces", &json!({"metadata": {"name": "production"}})).await;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recorded/errors");
    let mut wrong = Vec::new();
    let mut replayed = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let recorded = parse(&name, &std::fs::read_to_string(&path).unwrap());
        let bearer = if name == "wrong-token.txt" { "Bearer nonsense".to_owned() } else { format!("Bearer {TOKEN}") };
        let mut headers = vec![];
        if !recorded.anonymous {
            headers.push(("authorization", bearer.as_str()));
        }
        if !recorded.media.is_empty() {
            headers.push(("content-type", recorded.media.as_str()));
        }
        let answer =
            whole(server.send(&recorded.method, &recorded.path, &headers, recorded.body.as_bytes()).await).await;
        replayed += 1;
        let (found, expected) =
            ((answer.code, lasting_or(&answer.body)), (recorded.code, lasting_or(&recorded.answer)));
        if found != expected {
            wrong
                .push(format!("{name}:\n  found    {} {}\n  recorded {} {}", found.0, found.1, expected.0, expected.1));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(replayed, 30);
}

fn lasting_or(answer: &Value) -> Value {
    // A watch's error is an event, whose object is the Status.
    if answer["type"].is_string() { answer.clone() } else { lasting(answer.clone()) }
}

fn read(folder: &str, name: &str) -> Value {
    let path = format!("{}/tests/recorded/{folder}/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Columns of a table without their descriptions, which are our own words.
fn columns(table: &Value) -> Vec<Value> {
    let definitions = table["columnDefinitions"].as_array().unwrap().iter();
    definitions.map(|column| json!([column["name"], column["type"], column["format"], column["priority"]])).collect()
}

#[tokio::test]
async fn tables_have_the_columns_and_cells_of_a_real_server() {
    let server = Server::start();
    server.post("/api/v1/namespaces", &json!({"metadata": {"name": "production"}})).await;
    let cases = [
        ("api_v1_namespaces_production_pods", "pods_production", "/api/v1/namespaces/production/pods"),
        ("api_v1_namespaces_production_services", "svc_production", "/api/v1/namespaces/production/services"),
        (
            "apis_apps_v1_namespaces_kube-system_daemonsets",
            "ds_kube-system",
            "/apis/apps/v1/namespaces/kube-system/daemonsets",
        ),
        (
            "apis_apps_v1_namespaces_production_deployments",
            "deploy_production",
            "/apis/apps/v1/namespaces/production/deployments",
        ),
        (
            "apis_apps_v1_namespaces_production_replicasets",
            "rs_production",
            "/apis/apps/v1/namespaces/production/replicasets",
        ),
        (
            "apis_crd.projectcalico.org_v1_ippools",
            "ippools.crd.projectcalico.org",
            "/apis/crd.projectcalico.org/v1/ippools",
        ),
        (
            "apis_discovery.k8s.io_v1_namespaces_production_endpointslices",
            "endpointslices_production",
            "/apis/discovery.k8s.io/v1/namespaces/production/endpointslices",
        ),
    ];
    for (table, objects, path) in cases {
        for object in read("objects", objects)["items"].as_array().unwrap() {
            let created = server.post(&format!("{path}?fieldValidation=Strict"), object).await;
            assert_eq!(created.code, 201, "{}", created.text);
            let name = object["metadata"]["name"].as_str().unwrap();
            if object["status"].is_object() {
                let mut full = created.body.clone();
                full["status"] = object["status"].clone();
                let answer = server.put(&format!("{path}/{name}/status"), &full).await;
                assert_eq!(answer.code, 200, "{}", answer.text);
            }
        }
        let bearer = format!("Bearer {TOKEN}");
        let accept = "application/json;as=Table;v=v1;g=meta.k8s.io";
        let found =
            whole(server.send("GET", path, &[("authorization", &bearer), ("accept", accept)], b"").await).await.body;
        let recorded = read("table", table);
        assert_eq!(columns(&found), columns(&recorded), "{table}");
        let age = columns(&found).iter().position(|column| column[0] == "Age").unwrap();
        let rows = |table: &Value| -> Vec<Value> {
            let rows = table["rows"].as_array().unwrap().iter();
            rows.map(|row| {
                let mut cells = row["cells"].clone();
                cells[age] = json!("some time");
                cells
            })
            .collect()
        };
        let (found, recorded) = (rows(&found), rows(&recorded));
        // The recording was cut off by a limit; what it has must be what is found.
        assert_eq!(found[..recorded.len()], recorded[..], "{table}");
        assert!(!recorded.is_empty());
    }
}
