//! Expectations about objects of the cluster: the state of nodes, and what objects look like.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Looked;
use crate::judge::{Look, Seen, mismatch};
use crate::merge_patch::merge;
use crate::run::stage::Stage;
use crate::scenario::model::{NodeState, NodeStates, Refused, Resource};

pub async fn nodes(stage: &Stage<'_>, expected: &NodeStates) -> Looked {
    let found = stage.cluster.objects.list("v1", "Node", None, None).await.map_err(|error| error.to_string())?;
    let mut wrong = Vec::new();
    for name in stage.scenario.topology.members() {
        let named = expected.named.iter().find(|(node, _)| node == name).map(|(_, state)| *state);
        let Some(wanted) = named.or(expected.all) else { continue };
        let registered = stage.cluster.nodes.registered(name.as_str());
        // One that the cluster does not know is in neither state.
        match found.iter().find(|node| node["metadata"]["name"] == registered).map(state_of) {
            None => wrong.push(format!("{name} is not registered")),
            Some(state) if state != wanted => wrong.push(format!("{name} {}", state.word())),
            Some(_) => {}
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
    let fields = expected.field_selector.as_ref().map(|fields| fields.as_str());
    let objects = &stage.cluster.objects;
    let listed = objects.select(&expected.api_version, &expected.kind, namespace, selector, fields).await;
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

/// The object is tried as it is and with what makes it good; neither is created.
pub async fn refused(stage: &Stage<'_>, expected: &Refused) -> Looked {
    let lookup = |fact: &_| stage.facts.lookup(fact);
    let mut object = expected.object.resolve(&lookup).map_err(|error| error.to_string())?;
    let objects = &stage.cluster.objects;
    let Some(complaints) = objects.refusal(&object).await.map_err(|error| error.to_string())? else {
        return Ok(Look::Refuted(Seen::word("taken")));
    };
    let found: BTreeSet<&str> = complaints.iter().map(|(field, _)| field.as_str()).collect();
    let wanted: BTreeSet<&str> = expected.fields.iter().map(String::as_str).collect();
    let told: Vec<String> = complaints.iter().map(|(field, message)| format!("{field}: {message}")).collect();
    let told = told.join("; ");
    if found != wanted {
        return Ok(Look::Refuted(Seen::word(format!("refused for other fields: {told}"))));
    }
    let cure = expected.unless.resolve(&lookup).map_err(|error| error.to_string())?;
    merge(&mut object, cure);
    match objects.refusal(&object).await.map_err(|error| error.to_string())? {
        None => Ok(Look::Holds(format!("refused: {told}"))),
        Some(still) => Ok(Look::Refuted(Seen::word(format!("refused also with the change: {still:?}")))),
    }
}
