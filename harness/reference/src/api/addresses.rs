//! Cluster addresses and node ports of services: given out, asked for, kept.
//! Works on one transaction, so that no two services can get the same.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde_json::{Value, json};

use super::kinds;
use super::random;
use super::status::{Cause, Refusal};
use super::store::Transaction;

/// The ports that services of type NodePort may open on every node.
const NODE_PORTS: std::ops::RangeInclusive<i64> = 30_000..=32_767;
/// The offset of the address that DNS asks for by name; nobody gets it by chance.
const DNS_OFFSET: u32 = 10;

struct Taken {
    addresses: BTreeSet<Ipv4Addr>,
    ports: BTreeSet<(String, i64)>,
}

/// What all services but `own` (namespace and name) hold.
fn taken(tx: &Transaction<'_>, own: (&str, &str)) -> Taken {
    let mut taken = Taken { addresses: BTreeSet::new(), ports: BTreeSet::new() };
    for service in tx.list(kinds::core_index("services")) {
        let meta = &service.value["metadata"];
        if (meta["namespace"].as_str().unwrap_or_default(), meta["name"].as_str().unwrap_or_default()) == own {
            continue;
        }
        let spec = &service.value["spec"];
        taken.addresses.extend(spec["clusterIP"].as_str().and_then(|text| text.parse::<Ipv4Addr>().ok()));
        for port in spec["ports"].as_array().into_iter().flatten() {
            let protocol = port["protocol"].as_str().unwrap_or_default().to_owned();
            taken.ports.extend(port["nodePort"].as_i64().map(|number| (protocol, number)));
        }
    }
    taken
}

/// Gives `service` the addresses and ports it needs. `old` is what is stored of it, or null.
pub fn assign(
    tx: &Transaction<'_>,
    range: Ipv4Net,
    old: &Value,
    service: &mut Value,
    dry_run: bool,
) -> Result<(), Refusal> {
    let name = service["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let namespace = service["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
    let mut taken = taken(tx, (&namespace, &name));
    let kind = service["spec"]["type"].as_str().unwrap_or_default().to_owned();
    let spec = &mut service["spec"];
    let mut causes = Vec::new();
    if kind == "ExternalName" {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            spec.as_object_mut().map(|map| map.remove(field));
        }
    } else {
        keep_address(&old["spec"], spec);
        cluster_ip(range, &taken, spec, dry_run, &mut causes);
    }
    let wants_ports = kind == "NodePort" || (kind == "LoadBalancer" && spec["allocateLoadBalancerNodePorts"] != false);
    let old_ports = old["spec"]["ports"].as_array().cloned().unwrap_or_default();
    for (index, port) in spec["ports"].as_array_mut().into_iter().flatten().enumerate() {
        if wants_ports {
            node_port(&mut taken, &old_ports, index, port, &mut causes);
        } else if kind == "ClusterIP"
            && old_ports.iter().any(|known| known["nodePort"].is_i64() && known["nodePort"] == port["nodePort"])
        {
            // The type went back to ClusterIP; the port the server once chose goes with it.
            port.as_object_mut().map(|map| map.remove("nodePort"));
        }
    }
    if causes.is_empty() { Ok(()) } else { Err(Refusal::invalid("", "Service", &name, causes)) }
}

/// An update that says nothing of the address keeps it.
fn keep_address(old: &Value, spec: &mut Value) {
    if spec["clusterIP"].as_str().is_none_or(str::is_empty) {
        if let Some(first) = spec["clusterIPs"][0].as_str().map(str::to_owned) {
            spec["clusterIP"] = json!(first);
        } else if old["clusterIP"].is_string() {
            spec["clusterIP"] = old["clusterIP"].clone();
        }
    }
}

fn cluster_ip(range: Ipv4Net, taken: &Taken, spec: &mut Value, dry_run: bool, causes: &mut Vec<Cause>) {
    let asked = spec["clusterIP"].as_str().unwrap_or_default().to_owned();
    let address = match asked.as_str() {
        "None" => "None".to_owned(),
        "" => match free_address(range, taken) {
            Some(address) => address.to_string(),
            None => {
                let why = "failed to allocate a serviceIP: range is full";
                causes.push(Cause::invalid_text("spec.clusterIPs", "[]", why));
                return;
            }
        },
        text => match text.parse::<Ipv4Addr>() {
            Err(_) => {
                let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
                causes.push(Cause::invalid("spec.clusterIPs[0]", &json!(text), why));
                return;
            }
            Ok(address) => {
                let why = if !inside(range, address) {
                    outside(range, text, dry_run)
                } else if taken.addresses.contains(&address) {
                    "provided IP is already allocated".to_owned()
                } else {
                    spec["clusterIPs"] = json!([text]);
                    families(spec);
                    return;
                };
                let told = format!("[]string{{{text:?}}}");
                causes.push(Cause::invalid_text(
                    "spec.clusterIPs",
                    &told,
                    &format!("failed to allocate IP {text}: {why}"),
                ));
                return;
            }
        },
    };
    spec["clusterIP"] = json!(address);
    spec["clusterIPs"] = json!([address]);
    families(spec);
}

fn families(spec: &mut Value) {
    if spec["ipFamilies"].is_null() {
        spec["ipFamilies"] = json!(["IPv4"]);
    }
}

/// Why an address of no ServiceCIDR cannot be had. Since Kubernetes 1.33 an allocator is chosen by the address, and where
/// there is none for it no block is named; a dry run asks an allocator as it was asked before.
fn outside(range: Ipv4Net, address: &str, dry_run: bool) -> String {
    if dry_run {
        format!("the provided IP ({address}) is not in the valid range. The range of valid IPs is {range}")
    } else {
        "the provided network does not match the current range".to_owned()
    }
}

fn inside(range: Ipv4Net, address: Ipv4Addr) -> bool {
    range.contains(&address) && address != range.network() && address != range.broadcast()
}

fn free_address(range: Ipv4Net, taken: &Taken) -> Option<Ipv4Addr> {
    let base = u32::from(range.network());
    let size = u32::from(range.broadcast()) - base;
    let start = random::below(size);
    (0..size)
        .map(|step| (start + step) % size)
        .filter(|offset| *offset > 1 && *offset != DNS_OFFSET)
        .map(|offset| Ipv4Addr::from(base + offset))
        .find(|address| !taken.addresses.contains(address))
}

fn node_port(taken: &mut Taken, old: &[Value], index: usize, port: &mut Value, causes: &mut Vec<Cause>) {
    let protocol = port["protocol"].as_str().unwrap_or_default().to_owned();
    if port["nodePort"].as_i64().unwrap_or(0) == 0 {
        let known = old.iter().find(|known| known["port"] == port["port"] && known["protocol"] == port["protocol"]);
        let number = known.and_then(|known| known["nodePort"].as_i64()).or_else(|| free_port(taken, &protocol));
        let Some(number) = number else {
            causes.push(Cause::invalid(format!("spec.ports[{index}].nodePort"), &json!(0), "range is full"));
            return;
        };
        port["nodePort"] = json!(number);
    }
    let number = port["nodePort"].as_i64().unwrap_or(0);
    let why = if !NODE_PORTS.contains(&number) {
        "provided port is not in the valid range. The range of valid ports is 30000-32767"
    } else if !taken.ports.insert((protocol, number)) {
        "provided port is already allocated"
    } else {
        return;
    };
    causes.push(Cause::invalid(format!("spec.ports[{index}].nodePort"), &port["nodePort"], why));
}

fn free_port(taken: &Taken, protocol: &str) -> Option<i64> {
    let size = NODE_PORTS.end() - NODE_PORTS.start() + 1;
    let start = i64::from(random::below(u32::try_from(size).unwrap_or(1)));
    (0..size)
        .map(|step| NODE_PORTS.start() + (start + step) % size)
        .find(|number| !taken.ports.contains(&(protocol.to_owned(), *number)))
}
