//! Facts, compared with what iproute2 says of the same namespace.

use std::process::Command;

use cknet_kernel::ns::NetNs;
use cknet_probe::facts::Facts;
use libtest_mimic::Trial;
use serde_json::Value;

use crate::lab::Lab;
use crate::personalities::in_pod;
use crate::trial;

pub fn trials() -> Vec<Trial> {
    let with_ip = trial("facts_agree_with_iproute2", facts_agree_with_iproute2);
    let with_ip = match Command::new("ip").arg("-V").output() {
        Ok(_) => with_ip,
        Err(error) => with_ip.with_kind(format!("ignored: no `ip`: {error}")).with_ignored_flag(true),
    };
    vec![with_ip, trial("facts_of_listening_ports", facts_of_listening_ports)]
}

fn facts(netns: &NetNs, arguments: &[&str]) -> Facts {
    let output = in_pod(netns, &[&["facts"], arguments].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What `ip -j` says in a namespace.
fn ip(netns: &NetNs, arguments: &[&str]) -> Vec<Value> {
    let output = netns.run(|| Command::new("ip").arg("-j").args(arguments).output().unwrap()).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

fn facts_agree_with_iproute2() {
    let lab = Lab::new(2);
    let netns = &lab.pods[0].netns;
    let run = |arguments: &str| {
        let words: Vec<_> = arguments.split(' ').collect();
        netns.run(|| assert!(Command::new("ip").args(&words).status().unwrap().success(), "{arguments}")).unwrap();
    };
    run("link add vxlan.test type vxlan id 4096 dstport 4789 local 10.9.0.1 dev eth0 nolearning");
    run("link add vxlan.ext type vxlan external dstport 4790");
    run("link set vxlan.test up");
    run("route add blackhole 10.1.77.0/26 proto 80");
    run("route add 10.1.88.0/26 via 10.1.88.0 dev vxlan.test onlink src 10.9.0.1");
    run("neigh add 10.1.88.0 lladdr 66:00:00:00:00:01 dev vxlan.test nud permanent");
    let bridge = ["fdb", "add", "66:00:00:00:00:01", "dev", "vxlan.test", "dst", "10.9.0.2"];
    let has_bridge = netns.run(|| Command::new("bridge").args(bridge).status().is_ok_and(|s| s.success())).unwrap();

    // From outside, through the path: the same as from inside.
    let path = lab.path(0);
    let told = facts(&NetNs::current().unwrap(), &["--all", "--netns", &path]);
    let inside = facts(netns, &[]);
    let stable = |facts: &Facts| (facts.addresses.clone(), facts.routes.clone(), facts.listening.clone());
    assert_eq!(stable(&told), stable(&inside));

    let links = ip(netns, &["-d", "link"]);
    assert_eq!(told.links.len(), links.len());
    for (ours, theirs) in told.links.iter().zip(&links) {
        assert_eq!(Value::from(ours.name.as_str()), theirs["ifname"]);
        assert_eq!(Value::from(ours.index), theirs["ifindex"]);
        assert_eq!(Value::from(ours.mtu), theirs["mtu"]);
        assert_eq!(ours.mac.as_deref().unwrap_or_default(), theirs["address"].as_str().unwrap_or_default());
        let flags: Vec<_> = theirs["flags"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!((ours.up, ours.lower_up), (flags.contains(&"UP"), flags.contains(&"LOWER_UP")), "{}", ours.name);
        if let Some(kind) = theirs["linkinfo"]["info_kind"].as_str() {
            assert_eq!(ours.kind, kind);
        }
    }
    let vxlan = |name: &str| told.links.iter().find(|link| link.name == name).unwrap().vxlan.clone().unwrap();
    let test = vxlan("vxlan.test");
    assert_eq!((test.vni, test.port, test.learning, test.external), (4096, 4789, false, false));
    assert_eq!((test.local, test.parent.as_deref()), (Some(lab.pods[0].ip.into()), Some("eth0")));
    assert!(vxlan("vxlan.ext").external);

    let count = |family: &str| ip(netns, &[family, "route", "show", "table", "all"]);
    let theirs: Vec<_> = count("-4").into_iter().chain(count("-6")).filter(|r| r["table"] != "local").collect();
    assert_eq!(told.routes.len(), theirs.len(), "{:#?}\n{theirs:#?}", told.routes);
    let route = |to: &str| told.routes.iter().find(|route| route.destination.to_string() == to).unwrap();
    assert_eq!((route("10.1.77.0/26").kind.as_str(), route("10.1.77.0/26").next_hops.len()), ("blackhole", 0));
    let tunnel = route("10.1.88.0/26");
    assert_eq!(tunnel.source, Some(lab.pods[0].ip.into()));
    let hop = &tunnel.next_hops[0];
    assert_eq!(
        (hop.via.unwrap().to_string().as_str(), hop.device.as_deref(), hop.onlink),
        ("10.1.88.0", Some("vxlan.test"), true)
    );

    let rules = ip(netns, &["-4", "rule"]).len() + ip(netns, &["-6", "rule"]).len();
    assert_eq!(told.rules.len(), rules, "{:#?}", told.rules);
    let main = told.rules.iter().find(|rule| rule.priority == 32766 && rule.family == "ip").unwrap();
    assert_eq!((main.action.as_str(), main.from, main.to), ("table 254", None, None));

    let addresses: usize = ip(netns, &["address"]).iter().map(|l| l["addr_info"].as_array().map_or(0, Vec::len)).sum();
    assert_eq!(told.addresses.len(), addresses);
    let near = |ip: &str| told.neighbours.iter().find(|entry| entry.address.to_string() == ip).unwrap();
    assert_eq!(
        (near("10.1.88.0").mac.as_deref(), near("10.1.88.0").state.as_str()),
        (Some("66:00:00:00:00:01"), "permanent")
    );
    if has_bridge {
        let entry = told.fdb.iter().find(|entry| entry.mac == "66:00:00:00:00:01").unwrap();
        assert_eq!((entry.device.as_str(), entry.destination), ("vxlan.test", Some(lab.pods[1].ip.into())));
    }
}

fn facts_of_listening_ports() {
    let mut lab = Lab::new(1);
    lab.pods[0].serve("a/b", &["8080/tcp", "127.0.0.1:53/udp"]);
    let told = facts(&lab.pods[0].netns, &["listening"]);
    let ports: Vec<_> = told.listening.iter().map(|l| format!("{} {} {}", l.protocol, l.address, l.port)).collect();
    assert_eq!(ports, ["tcp :: 8080", "udp 127.0.0.1 53"]);
    assert!(told.links.is_empty() && told.routes.is_empty());
}
