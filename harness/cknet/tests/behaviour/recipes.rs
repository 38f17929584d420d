//! The public recipes for policies, in manifests of our own words, with the pods that they run: nginx behind a
//! service, and wget from alpine.

use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::stand::{Space, eventually, shared};
use super::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("recipes::deny_all_to_an_application", deny_all),
        trial("recipes::limit_traffic_to_an_application", limit),
        trial("recipes::deny_from_other_namespaces", other_namespaces),
        trial("recipes::allow_from_a_namespace", from_namespace),
        trial("recipes::allow_external", external),
        trial("recipes::allow_one_port_only", one_port),
        trial("recipes::deny_egress_then_allow_names", egress),
    ]
}

/// `web` with its service, ready.
fn web(space: &Space, labels: &[(&str, &str)]) {
    space.run("web", "nginx", "", labels, &[]);
    space.expose("web", labels[0], 80, 80);
    space.await_ready(&["web"]);
}

fn client(space: &Space, name: &str, labels: &[(&str, &str)]) {
    space.run(name, "alpine", "", labels, &["sleep", "3600"]);
    space.await_ready(&[name]);
}

/// How `wget` ends: with the page, or with its complaint.
fn wget(space: &Space, from: &str, url: &str) -> String {
    let done = space.exec(from, &format!("wget -qO- --timeout=2 {url}"));
    match (done.code, done.out.contains("Welcome to nginx!")) {
        (0, true) => "page".into(),
        (0, false) => done.out,
        _ => done.err.trim().to_string(),
    }
}

#[track_caller]
fn ends(space: &Space, from: &str, url: &str, expected: &str) {
    eventually(&format!("{from} to {url}: {expected}"), || match wget(space, from, url) {
        seen if seen == expected => Ok(()),
        seen => Err(seen),
    });
}

const LOST: &str = "wget: download timed out";

fn deny_all() {
    let space = shared().space("recipe-deny");
    web(&space, &[("app", "web")]);
    client(&space, "test", &[]);
    ends(&space, "test", "http://web", "page");
    let policy = space.apply_file("recipes/deny-all-to-an-application.yaml");
    ends(&space, "test", "http://web", LOST);
    space.delete(&policy);
    ends(&space, "test", "http://web", "page");
}

fn limit() {
    let space = shared().space("recipe-limit");
    web(&space, &[("app", "bookstore"), ("role", "api")]);
    client(&space, "stranger", &[]);
    client(&space, "friend", &[("app", "bookstore"), ("role", "frontend")]);
    ends(&space, "stranger", "http://web", "page");
    space.apply_file("recipes/limit-traffic-to-an-application.yaml");
    ends(&space, "stranger", "http://web", LOST);
    ends(&space, "friend", "http://web", "page");
}

fn other_namespaces() {
    let (space, other) = (shared().space("recipe-own"), shared().space("recipe-other"));
    web(&space, &[("app", "web")]);
    client(&space, "inside", &[]);
    client(&other, "outside", &[]);
    ends(&other, "outside", "http://web.recipe-own", "page");
    space.apply_file("recipes/deny-from-other-namespaces.yaml");
    ends(&other, "outside", "http://web.recipe-own", LOST);
    ends(&space, "inside", "http://web", "page");
}

fn from_namespace() {
    let space = shared().space("recipe-prod");
    let (production, development) = (shared().space("recipe-production"), shared().space("recipe-development"));
    let label = |space: &Space, purpose: &str| {
        let name = &space.name;
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        space.stand.patch(&object, "", &json!({"metadata": {"labels": {"purpose": purpose}}}));
    };
    label(&production, "production");
    label(&development, "testing");
    web(&space, &[("app", "web")]);
    client(&production, "test", &[]);
    client(&development, "test", &[]);
    space.apply_file("recipes/allow-from-a-namespace.yaml");
    ends(&development, "test", "http://web.recipe-prod", LOST);
    ends(&production, "test", "http://web.recipe-prod", "page");
}

fn external() {
    let space = shared().space("recipe-external");
    web(&space, &[("app", "web")]);
    let place = format!("{}:80", space.address("web"));
    let (away, home) = match space.pod("web")["spec"]["nodeName"].as_str() {
        Some("w1") => ("w2", "w1"),
        Some(node) => ("w1", if node == "cp1" { "cp1" } else { "w2" }),
        None => panic!("web is nowhere"),
    };
    let from = |node: &str| shared().try_on_node(node, &format!("agnhost connect {place} --timeout=1s"));
    let closed: Value = space.apply_file("recipes/deny-all-to-an-application.yaml");
    eventually("another machine is kept out", || if from(away).code == 1 { Ok(()) } else { Err("in".into()) });
    assert_eq!(from(home).code, 0, "its own node always gets in");
    space.delete(&closed);
    space.apply_file("recipes/allow-external.yaml");
    eventually("another machine gets in", || if from(away).code == 0 { Ok(()) } else { Err("out".into()) });
}

fn one_port() {
    let space = shared().space("recipe-port");
    space.run("apiserver", "ahmet/app-on-two-ports", "", &[("app", "apiserver")], &[]);
    space.await_ready(&["apiserver"]);
    client(&space, "stranger", &[]);
    client(&space, "monitor", &[("role", "monitoring")]);
    let address = space.address("apiserver");
    space.apply_file("recipes/allow-one-port-only.yaml");
    ends(&space, "stranger", &format!("http://{address}:8000"), LOST);
    ends(&space, "stranger", &format!("http://{address}:5000/metrics"), LOST);
    ends(&space, "monitor", &format!("http://{address}:8000"), LOST);
    let figures = wget(&space, "monitor", &format!("http://{address}:5000/metrics"));
    assert!(figures.starts_with("http.requests="), "{figures}");
}

fn egress() {
    let space = shared().space("recipe-egress");
    web(&space, &[("app", "web")]);
    client(&space, "foo", &[("app", "foo")]);
    ends(&space, "foo", "http://web", "page");
    space.apply_file("recipes/deny-egress.yaml");
    ends(&space, "foo", &format!("http://{}", space.cluster_ip("web")), LOST);
    // Not even the name can be looked up.
    assert_eq!(wget(&space, "foo", "http://web:80/"), "wget: bad address 'web:80'");
    space.apply_file("recipes/deny-egress-but-names.yaml");
    ends(&space, "foo", "http://web", LOST);
}
