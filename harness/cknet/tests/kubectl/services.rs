//! Services and the names of the cluster, from inside pods and from nodes.

use std::collections::BTreeSet;

use libtest_mimic::Trial;

use super::cluster::{SOON, Space, shared};
use super::program::{eventually, table};
use super::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("services::both_backends_are_reached", both_backends_are_reached),
        trial("services::a_node_port_is_open_on_every_node", a_node_port_is_open_on_every_node),
        trial("services::a_service_without_backends_refuses", a_service_without_backends_refuses),
        trial("services::the_api_is_reached_from_pods", the_api_is_reached_from_pods),
        trial("services::names_lead_to_services_and_pods", names_lead_to_services_and_pods),
        trial("services::names_that_are_not_there", names_that_are_not_there),
    ]
}

fn both_backends_are_reached() {
    let space = shared().space("backends");
    space.pods(&[
        ("a", "web", "w1", &["8080/tcp"]),
        ("b", "web", "w2", &["8080/tcp"]),
        ("client", "client", "cp1", &[]),
    ]);
    space.ok("create service clusterip web --tcp=80:8080");
    let text = space.ok("get service web -o wide");
    let rows = table(&text);
    assert_eq!(rows[0], ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE", "SELECTOR"]);
    let address = space.field("service web", ".spec.clusterIP");
    assert!(address.starts_with("10.152.183."), "{address}");
    assert_eq!(rows[1], ["web", "ClusterIP", &address, "<none>", "80/TCP", rows[1][5], "app=web"]);
    let expected = BTreeSet::from([format!("{}:8080", space.address("a")), format!("{}:8080", space.address("b"))]);
    let listed = eventually("two endpoints", SOON, || {
        let text = space.ok("get endpoints web --no-headers");
        let listed: BTreeSet<String> =
            text.split_whitespace().nth(1).unwrap_or_default().split(',').map(String::from).collect();
        if listed.len() == 2 { Ok(listed) } else { Err(text) }
    });
    assert_eq!(listed, expected);
    let described = space.ok("describe service web");
    for expected in [
        "Selector:                 app=web\n",
        &format!("IP:                       {address}\n"),
        "Port:                     80-8080  80/TCP\n",
        "TargetPort:               8080/TCP\n",
    ] {
        assert!(described.contains(expected), "no `{expected}` in:\n{described}");
    }
    let mut seen = BTreeSet::new();
    eventually("both answer", SOON, || {
        let ended = space.connect("client", "web:80");
        seen.insert(ended.clone());
        let both = ["allowed by backends/a", "allowed by backends/b"].iter().all(|one| seen.contains(*one));
        if both { Ok(()) } else { Err(format!("{seen:?}")) }
    });
    // A backend that is deleted gets nothing any more.
    space.ok("delete pod a");
    eventually("one endpoint", SOON, || {
        match space.ok("get endpoints web -o 'jsonpath={.subsets[*].addresses[*].targetRef.name}'") {
            left if left == "b" => Ok(()),
            left => Err(left),
        }
    });
    space.await_connect("client", "web:80", "allowed by backends/b");
    for _ in 0..8 {
        space.see(&[("client", "web:80", "allowed by backends/b")]);
    }
}

fn a_node_port_is_open_on_every_node() {
    let space = shared().space("nodeport");
    space.pods(&[("web", "web", "w1", &["8080/tcp"]), ("client", "client", "w2", &[])]);
    assert_eq!(space.ok("expose pod web --type=NodePort --port=80 --target-port=8080"), "service/web exposed\n");
    let port: u16 = space.field("service web", ".spec.ports[0].nodePort").parse().unwrap();
    assert!((30000..=32767).contains(&port), "{port}");
    let row = space.ok("get service web --no-headers");
    assert_eq!(row.split_whitespace().nth(4), Some(format!("80:{port}/TCP").as_str()));
    let through = |node: u8| format!("192.168.60.{node}:{port}");
    let answer = "allowed by nodeport/web";
    space.await_connect("client", &through(12), answer);
    space.see(&[("client", &through(11), answer), ("client", &through(13), answer)]);
    // From a node through itself, through the node of the pod, and through a third one.
    for (from, to) in [("cp1", 11), ("cp1", 12), ("cp1", 13), ("w1", 12), ("w2", 12)] {
        assert_eq!(shared().connect_from_node(from, &through(to)), answer, "from {from} through 192.168.60.{to}");
    }
    // The Service's own port is open at its own address only.
    assert_eq!(space.connect("client", "192.168.60.12:80"), "REFUSED");
}

fn a_service_without_backends_refuses() {
    let space = shared().space("empty");
    space.pods(&[("client", "client", "w2", &[])]);
    space.ok("create service clusterip nobody --tcp=80:8080");
    space.await_connect("client", "nobody:80", "REFUSED");
}

fn the_api_is_reached_from_pods() {
    let space = shared().space("api");
    space.pods(&[("client", "client", "w2", &[])]);
    let ended = space.connect("client", "kubernetes.default:443");
    assert!(ended.starts_with("allowed: connected"), "{ended}");
}

/// Records of a name as `cknet resolve` prints them: name and value, without the time to live.
fn resolve(space: &Space, pod: &str, what: &str) -> Result<Vec<(String, String)>, String> {
    let done = space.run(&format!("exec {pod} -- cknet resolve {what}"));
    if done.code != 0 {
        return Err(done.err);
    }
    let records = done.out.lines().filter(|line| !line.starts_with(' '));
    let mut records: Vec<(String, String)> = records
        .map(|line| {
            let (name, rest) = line.split_once(' ').unwrap();
            (name.to_owned(), rest.split_once(' ').unwrap().1.to_owned())
        })
        .collect();
    records.sort();
    Ok(records)
}

fn names_lead_to_services_and_pods() {
    let space = shared().space("dns");
    space.pods(&[
        ("a", "web", "w1", &["8080/tcp"]),
        ("b", "web", "w2", &["8080/tcp"]),
        ("client", "client", "cp1", &[]),
    ]);
    space.ok("create service clusterip web --tcp=80:8080");
    space.ok_with(
        "apply -f -",
        "{apiVersion: v1, kind: Service, metadata: {name: all}, spec: {clusterIP: None, selector: {app: web}, \
         ports: [{name: http, port: 8080}]}}",
    );
    let service = space.field("service web", ".spec.clusterIP");
    let name = "web.dns.svc.cluster.local";
    for asked in ["web", "web.dns", "web.dns.svc", name, &format!("{name}.")] {
        let found = eventually(asked, SOON, || resolve(&space, "client", &format!("{asked} --type a")));
        assert_eq!(found, [(name.to_owned(), service.clone())], "`{asked}`");
    }
    let (a, b) = (space.address("a"), space.address("b"));
    let headless = eventually("both pods behind the headless service", SOON, || {
        let found = resolve(&space, "client", "all --type a")?;
        if found.len() == 2 { Ok(found) } else { Err(format!("{found:?}")) }
    });
    let addresses: BTreeSet<&str> = headless.iter().map(|(_, address)| address.as_str()).collect();
    assert_eq!(addresses, BTreeSet::from([a.as_str(), &b]));
    assert!(headless.iter().all(|(name, _)| name == "all.dns.svc.cluster.local"), "{headless:?}");
    let pod = format!("{}.dns.pod.cluster.local", a.replace('.', "-"));
    assert_eq!(resolve(&space, "client", &format!("{pod} --type a")), Ok(vec![(pod, a)]));
    let ports = resolve(&space, "client", "_http._tcp.all.dns.svc.cluster.local --type srv").unwrap();
    assert_eq!(ports.len(), 2, "one SRV record for each pod: {ports:?}");
    assert!(ports.iter().all(|(_, value)| value.contains("8080")), "{ports:?}");
    let reverse: Vec<&str> = service.rsplit('.').collect();
    let reverse = format!("{}.in-addr.arpa", reverse.join("."));
    let found = resolve(&space, "client", &format!("{reverse}. --type ptr")).unwrap();
    assert_eq!(found[0].1.trim_end_matches('.'), name);
}

fn names_that_are_not_there() {
    let space = shared().space("nonames");
    space.pods(&[("client", "client", "w1", &[])]);
    let complaint = resolve(&space, "client", "nope.nonames.svc.cluster.local. --type a").unwrap_err();
    assert!(complaint.contains("NXDOMAIN"), "{complaint}");
    // A Service of another namespace is not found by its bare name.
    let complaint = resolve(&space, "client", "kube-dns.nonames.svc.cluster.local. --type a").unwrap_err();
    assert!(complaint.contains("NXDOMAIN"), "{complaint}");
    let found = resolve(&space, "client", "kube-dns.kube-system --type a").unwrap();
    assert_eq!(found, [("kube-dns.kube-system.svc.cluster.local".to_owned(), "10.152.183.10".to_owned())]);
    let ended = space.connect("client", "nope.nonames.svc.cluster.local.:80");
    assert!(ended.starts_with("DNS: "), "{ended}");
}
