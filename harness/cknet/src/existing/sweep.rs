//! Removes everything that carries a run's mark from a cluster, whatever its kind, and waits until it is gone.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use kube::api::{Api, DynamicObject, ListParams};
use kube::discovery::{ApiResource, Discovery, Scope, verbs};
use kube::{Client, ResourceExt};

use super::MARK;
use crate::cluster::objects::{Coordinates, Objects, answer};

/// Longest time for all of it; a namespace goes when everything in it has gone.
const GONE: Duration = Duration::from_secs(120);

pub async fn sweep(client: &Client, run: &str) -> Result<(), String> {
    let swept = tokio::time::timeout(GONE, sweep_all(client, run));
    swept.await.unwrap_or_else(|_| Err(format!("it is not gone after {GONE:?}")))
}

async fn sweep_all(client: &Client, run: &str) -> Result<(), String> {
    let discovery = Discovery::new(client.clone()).run().await.map_err(|error| answer(&error))?;
    let served = discovery.groups().flat_map(|group| group.recommended_resources());
    let kinds: Vec<(ApiResource, Scope)> = served
        .filter(|(_, can)| can.supports_operation(verbs::LIST) && can.supports_operation(verbs::DELETE))
        .map(|(kind, can)| (kind, can.scope))
        .collect();
    let marked = join_all(kinds.iter().map(|(kind, scope)| marked(client, kind, scope, run))).await;
    // A kind that cannot be listed may belong to an API server that is down; what is ours is of other kinds.
    let found: BTreeSet<Coordinates> = marked.into_iter().flatten().flatten().collect();
    let (namespaces, rest): (Vec<_>, Vec<_>) = found.into_iter().partition(|at| at.kind == "Namespace");
    let objects = Objects::new(client.clone(), None);
    for group in [rest, namespaces] {
        let deleted = join_all(group.iter().map(|at| objects.delete(at))).await;
        if let Some(error) = deleted.into_iter().find_map(Result::err) {
            return Err(error.to_string());
        }
    }
    Ok(())
}

/// Objects of one kind with the run's mark.
async fn marked(client: &Client, kind: &ApiResource, scope: &Scope, run: &str) -> Result<Vec<Coordinates>, String> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), kind);
    let wanted = ListParams::default().labels(&format!("{MARK}={run}"));
    let found = api.list(&wanted).await.map_err(|error| answer(&error))?;
    let at = |object: DynamicObject| Coordinates {
        api_version: kind.api_version.clone(),
        kind: kind.kind.clone(),
        namespace: object.namespace().filter(|_| *scope == Scope::Namespaced),
        name: object.name_any(),
    };
    Ok(found.items.into_iter().map(at).collect())
}
