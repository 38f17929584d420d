//! Expectations about objects of the cluster: the state of nodes, and what objects look like.

use serde_json::Value;

use super::Looked;
use crate::judge::{Look, Seen, mismatch};
use crate::run::stage::Stage;
use crate::scenario::model::{NodeState, NodeStates, Resource};

pub async fn nodes(stage: &Stage<'_>, expected: &NodeStates) -> Looked {
    let found = stage.cluster.objects.list("v1", "Node", None, None).await.map_err(|error| error.to_string())?;
    let mut wrong = Vec::new();
    for name in stage.scenario.topology.members() {
        let named = expected.named.iter().find(|(node, _)| node == name).map(|(_, state)| *state);
        let Some(wanted) = named.or(expected.all) else { continue };
        let node = found.iter().find(|node| node["metadata"]["name"] == name.as_str());
        let state = node.map_or(NodeState::NotReady, state_of);
        if state != wanted {
            wrong.push(format!("{name} {}", state.word()));
        }
    }
    if wrong.is_empty() {
        return Ok(Look::Holds("as expected".into()));
    }
    Ok(Look::Refuted(Seen::word(wrong.join(", "))))
}

fn state_of(node: &Value) -> NodeState {
    let conditions = node["status"]["conditions"].as_array();
    let ready = conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"));
    if ready { NodeState::Ready } else { NodeState::NotReady }
}

pub async fn resource(stage: &Stage<'_>, expected: &Resource) -> Looked {
    let namespace = expected.namespace.as_ref().map(|namespace| namespace.as_str());
    let selector = expected.selector.as_ref().map(|selector| selector.as_str());
    let listed = stage.cluster.objects.list(&expected.api_version, &expected.kind, namespace, selector).await;
    let mut found = listed.map_err(|error| error.to_string())?;
    if let Some(name) = &expected.name {
        found.retain(|object| object["metadata"]["name"] == name.as_str());
    }
    if let Some(count) = expected.count
        && found.len() != usize::from(count)
    {
        return Ok(Look::Refuted(Seen::word(format!("{} of them", found.len()))));
    }
    if found.is_empty() && expected.count != Some(0) {
        // What is not there has no property: a selection that finds nothing confirms nothing.
        return Ok(Look::Refuted(Seen::word("none found")));
    }
    let Some(wanted) = &expected.matches else { return Ok(Look::Holds(format!("{} found", found.len()))) };
    let wanted = wanted.resolve(&|fact| stage.facts.lookup(fact)).map_err(|error| error.to_string())?;
    for object in &found {
        if let Some(problem) = mismatch(&wanted, object) {
            let name = object["metadata"]["name"].as_str().unwrap_or("?");
            return Ok(Look::Refuted(Seen::word(format!("{name}: {problem}"))));
        }
    }
    Ok(Look::Holds(format!("all {} match", found.len())))
}
