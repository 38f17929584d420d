//! What the server serves, told to clients: groups, versions, resources and the server's own version.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::kinds::{self, KINDS, Kind, SUBS, SubRow};

/// The version of Kubernetes whose behaviour is modelled.
pub const VERSION: (&str, &str, &str) = ("1", "33", "v1.33.13");

/// `/version`.
pub fn version() -> Value {
    let (major, minor, full) = VERSION;
    json!({
        "major": major, "minor": minor, "gitVersion": full, "gitCommit": "", "gitTreeState": "clean",
        "emulationMajor": major, "emulationMinor": minor, "minCompatibilityMajor": major, "minCompatibilityMinor": "32",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "none", "compiler": "rustc", "platform": "linux/amd64",
    })
}

/// `/api`.
pub fn core_versions(advertise: SocketAddr) -> Value {
    json!({
        "kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{ "clientCIDR": "0.0.0.0/0", "serverAddress": advertise.to_string() }],
    })
}

fn group_entry(group: &str, version: &str) -> Value {
    let version = json!({ "groupVersion": format!("{group}/{version}"), "version": version });
    json!({ "name": group, "versions": [version], "preferredVersion": version })
}

/// `/apis`.
pub fn group_list() -> Value {
    let groups: Vec<Value> = kinds::groups().into_iter().map(|(group, version)| group_entry(group, version)).collect();
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
}

/// `/apis/GROUP`.
pub fn group(name: &str) -> Option<Value> {
    let (group, version) = kinds::groups().into_iter().find(|(group, _)| *group == name)?;
    let mut entry = group_entry(group, version);
    entry["kind"] = json!("APIGroup");
    entry["apiVersion"] = json!("v1");
    Some(entry)
}

fn rows<'a>(group: &'a str, version: &'a str) -> impl Iterator<Item = &'static Kind> + 'a {
    KINDS.iter().filter(move |kind| kind.group == group && kind.version == version)
}

fn subs(kind: &Kind) -> impl Iterator<Item = &'static SubRow> {
    SUBS.iter().filter(|row| kind.subs.contains(&row.sub))
}

/// `/api/v1` and `/apis/GROUP/VERSION`.
pub fn resources(group: &str, version: &str) -> Option<Value> {
    let mut all = Vec::new();
    for kind in rows(group, version) {
        let mut row = json!({
            "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced,
            "kind": kind.kind, "verbs": kind.verbs,
        });
        if !kind.short.is_empty() {
            row["shortNames"] = json!(kind.short);
        }
        if kind.in_all {
            row["categories"] = json!(["all"]);
        }
        all.push(row);
        for sub in subs(kind) {
            let (group, version, speaks) = sub.speaks;
            let mut row = json!({
                "name": format!("{}/{}", kind.plural, sub.name), "singularName": "", "namespaced": kind.namespaced,
                "kind": if speaks.is_empty() { kind.kind } else { speaks }, "verbs": sub.verbs,
            });
            if !group.is_empty() {
                row["group"] = json!(group);
                row["version"] = json!(version);
            }
            all.push(row);
        }
    }
    if all.is_empty() {
        return None;
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Some(json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": all }))
}

fn aggregated_resource(kind: &Kind) -> Value {
    let mut row = json!({
        "resource": kind.plural,
        "responseKind": { "group": kind.group, "version": kind.version, "kind": kind.kind },
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular,
        "verbs": kind.verbs,
    });
    if !kind.short.is_empty() {
        row["shortNames"] = json!(kind.short);
    }
    if kind.in_all {
        row["categories"] = json!(["all"]);
    }
    let subs: Vec<Value> = subs(kind)
        .map(|sub| {
            let (group, version, speaks) = sub.speaks;
            let speaks = if speaks.is_empty() { kind.kind } else { speaks };
            let response = json!({ "group": group, "version": version, "kind": speaks });
            json!({ "subresource": sub.name, "responseKind": response, "verbs": sub.verbs })
        })
        .collect();
    if !subs.is_empty() {
        row["subresources"] = json!(subs);
    }
    row
}

fn aggregated_group(group: &str, version: &str) -> Value {
    let resources: Vec<Value> = rows(group, version).map(aggregated_resource).collect();
    let meta = if group.is_empty() {
        json!({ "creationTimestamp": null })
    } else {
        json!({ "name": group, "creationTimestamp": null })
    };
    json!({ "metadata": meta, "versions": [{ "version": version, "resources": resources, "freshness": "Current" }] })
}

/// `/api` or `/apis` in one document, as current clients ask for it; `stable` is the `v2` form of it.
pub fn aggregated(core: bool, stable: bool) -> Value {
    let items: Vec<Value> = if core {
        vec![aggregated_group("", "v1")]
    } else {
        kinds::groups().into_iter().map(|(group, version)| aggregated_group(group, version)).collect()
    };
    let version = if stable { "v2" } else { "v2beta1" };
    json!({ "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"), "metadata": {}, "items": items })
}
