//! What the API holds: the objects that have a say in where packets go. Secrets and ConfigMaps are not asked for.

use futures::FutureExt;
use futures::future::join_all;
use serde_json::Value;

use super::{Api, Look, REQUEST, table};

/// Kinds of objects that are told whole, each with its file.
const WHOLE_OBJECTS: [(&str, &str, &str); 4] = [
    ("nodes.yaml", "v1", "Node"),
    ("services.yaml", "v1", "Service"),
    ("endpointslices.yaml", "discovery.k8s.io/v1", "EndpointSlice"),
    ("networkpolicies.yaml", "networking.k8s.io/v1", "NetworkPolicy"),
];

/// The group under which Calico keeps what it works with.
const CALICO: &str = "crd.projectcalico.org/v1";

/// Calico's kinds; which of them are there depends on its version.
const CALICO_KINDS: [&str; 10] = [
    "IPPool",
    "IPAMBlock",
    "BlockAffinity",
    "FelixConfiguration",
    "BGPConfiguration",
    "BGPPeer",
    "HostEndpoint",
    "GlobalNetworkPolicy",
    "NetworkPolicy",
    "ClusterInformation",
];

pub(super) fn looks(api: Api<'_>) -> Vec<Look<'_>> {
    let path = |file: &str| format!("api/{file}");
    let mut looks = vec![
        Look::one(path("pods.txt"), list(api, "v1", "Pod").map(|pods| pods.map(|pods| table::pods(&pods)))),
        Look::one(path("events.txt"), list(api, "v1", "Event").map(|all| all.map(|all| table::events(&all)))),
    ];
    looks.extend(WHOLE_OBJECTS.map(|(file, api_version, kind)| {
        Look::one(path(file), async move { documents(list(api, api_version, kind).await?) })
    }));
    looks.push(Look::one(path("calico.yaml"), calico(api)));
    looks
}

/// All objects of a kind.
pub(super) async fn list(api: Api<'_>, api_version: &str, kind: &str) -> Result<Vec<Value>, String> {
    let listed = tokio::time::timeout(REQUEST, api.objects.list(api_version, kind, None, None)).await;
    let listed = listed.map_err(|_| format!("cannot list {kind}: no answer within {REQUEST:?}"))?;
    listed.map_err(|error| error.to_string())
}

/// Those of Calico's kinds that are served.
async fn calico(api: Api<'_>) -> Result<String, String> {
    let listed = join_all(CALICO_KINDS.map(|kind| list(api, CALICO, kind))).await;
    let (mut text, mut refused) = (String::new(), Vec::new());
    for objects in listed {
        match objects {
            Ok(objects) if objects.is_empty() => {}
            Ok(objects) => text.push_str(&documents(objects)?),
            Err(why) => refused.push(why),
        }
    }
    match refused.first() {
        // Where Calico is not, one of its kinds stands for all.
        Some(why) if refused.len() == CALICO_KINDS.len() => Err(why.clone()),
        _ => Ok(text + &refused.iter().map(|why| format!("# {why}\n")).collect::<String>()),
    }
}

/// Objects as YAML, one document each, without what nobody reads.
fn documents(objects: Vec<Value>) -> Result<String, String> {
    let mut text = String::new();
    for mut object in objects {
        strip(&mut object);
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(&object).map_err(|error| error.to_string())?);
    }
    if text.is_empty() { Ok("# there is none\n".into()) } else { Ok(text) }
}

fn strip(object: &mut Value) {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
        if let Some(notes) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            notes.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        // What a node has pulled is long and says nothing about its network.
        status.remove("images");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_are_told_without_their_history() {
        let node = json!({"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": "w1", "managedFields": [{"manager": "x"}],
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}},
            "status": {"images": [{"names": ["a"]}], "addresses": []}});
        let text = documents(vec![node]).unwrap();
        assert!(text.starts_with("---\n") && text.contains("name: w1"), "{text}");
        for gone in ["managedFields", "last-applied", "images"] {
            assert!(!text.contains(gone), "{text}");
        }
        assert_eq!(documents(Vec::new()).unwrap(), "# there is none\n");
    }
}
