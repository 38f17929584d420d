//! Removes everything that carries a run's mark from a cluster, whatever its kind, and waits until it is gone.
//!
//! What cannot be looked at may be what is left: it is an error, unless nothing of a run can be there.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::{Api, DynamicObject, ListParams};
use kube::discovery::{ApiResource, Discovery, Scope, verbs};
use kube::{Client, ResourceExt};

use super::MARK;
use super::rights::may;
use crate::cluster::objects::{Coordinates, Objects, answer};

/// Longest time for all of it; a namespace goes when everything in it has gone.
const GONE: Duration = Duration::from_secs(120);

/// What the API answers to somebody who may not.
const FORBIDDEN: u16 = 403;

/// What it answers where a kind is not served any more, and where one cannot be listed whatever discovery says.
const NO_LIST: [u16; 2] = [404, 405];

pub async fn sweep(client: &Client, run: &str) -> Result<(), String> {
    let swept = tokio::time::timeout(GONE, sweep_all(client, run));
    swept.await.unwrap_or_else(|_| Err(format!("it is not gone after {GONE:?}")))
}

async fn sweep_all(client: &Client, run: &str) -> Result<(), String> {
    let away = away(client).await?;
    let away: Vec<&str> = away.iter().map(String::as_str).collect();
    let discovery = Discovery::new(client.clone()).exclude(&away).run().await;
    let discovery = discovery.map_err(|error| format!("which kinds there are: {}", answer(&error)))?;
    let served = discovery.groups().flat_map(|group| group.recommended_resources());
    let kinds: Vec<(ApiResource, Scope)> = served
        .filter(|(_, can)| can.supports_operation(verbs::LIST) && can.supports_operation(verbs::DELETE))
        .map(|(kind, can)| (kind, can.scope))
        .collect();
    let marked = try_join_all(kinds.iter().map(|(kind, scope)| marked(client, kind, scope, run))).await?;
    let found: BTreeSet<Coordinates> = marked.into_iter().flatten().collect();
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

/// Groups that an API server of their own serves which is down, as those of metrics often are: nothing of a run is of
/// their kinds, and asking for them would end the search for everything else.
async fn away(client: &Client) -> Result<BTreeSet<String>, String> {
    let api: Api<APIService> = Api::all(client.clone());
    let services = match api.list(&ListParams::default()).await {
        Ok(found) => found.items,
        // No group has a server of its own, or who may not see it finds out when it is asked for.
        Err(kube::Error::Api(status)) if status.code == FORBIDDEN || NO_LIST.contains(&status.code) => Vec::new(),
        Err(error) => return Err(format!("which groups have servers of their own: {}", answer(&error))),
    };
    let down = |service: &APIService| {
        let conditions = service.status.as_ref().and_then(|status| status.conditions.as_ref());
        let mut conditions = conditions.into_iter().flatten();
        !conditions.any(|condition| condition.type_ == "Available" && condition.status == "True")
    };
    let group = |service: APIService| {
        let delegated = service.spec.as_ref().is_some_and(|spec| spec.service.is_some());
        if delegated && down(&service) { service.spec?.group } else { None }
    };
    Ok(services.into_iter().filter_map(group).collect())
}

/// Objects of one kind with the run's mark.
async fn marked(client: &Client, kind: &ApiResource, scope: &Scope, run: &str) -> Result<Vec<Coordinates>, String> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), kind);
    let wanted = ListParams::default().labels(&format!("{MARK}={run}"));
    let failed = |error: &kube::Error| format!("what is left of {}: {}", kind.kind, answer(error));
    let found = match api.list(&wanted).await {
        Ok(found) => found.items,
        Err(kube::Error::Api(status)) if NO_LIST.contains(&status.code) => Vec::new(),
        Err(error @ kube::Error::Api(_)) if code(&error) == Some(FORBIDDEN) => {
            // Who may not make such a thing has made none; namespaces of a run's own go with everything in them.
            let namespace = (*scope == Scope::Namespaced).then_some("default");
            let may_make = may(client, "create", (&kind.group, &kind.plural), namespace).await;
            if may_make.map_err(|error| failed(&error))? {
                return Err(failed(&error));
            }
            Vec::new()
        }
        Err(error) => return Err(failed(&error)),
    };
    let at = |object: DynamicObject| Coordinates {
        api_version: kind.api_version.clone(),
        kind: kind.kind.clone(),
        namespace: object.namespace().filter(|_| *scope == Scope::Namespaced),
        name: object.name_any(),
    };
    Ok(found.into_iter().map(at).collect())
}

fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::stand_in::{StandIn, status};
    use super::*;
    use serde_json::{Value, json};

    const API_SERVICES: &str = "GET /apis/apiregistration.k8s.io/v1/apiservices";
    const METRICS: &str = "GET /apis/metrics.k8s.io/v1";
    const PODS: &str = "GET /api/v1/pods?&labelSelector=cknet.dev%2Frun%3Dr1";
    const NAMESPACES: &str = "GET /api/v1/namespaces?&labelSelector=cknet.dev%2Frun%3Dr1";
    const REVIEW: &str = "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews";

    fn list(kind: &str, items: &[Value]) -> Value {
        json!({"kind": kind, "apiVersion": "v1", "metadata": {}, "items": items})
    }

    /// A cluster with two kinds of its own and a group of somebody else's server, of which nothing is left.
    fn cluster() -> Vec<(&'static str, u16, Value)> {
        let kind = |name: &str, kind: &str, namespaced: bool| json!({"name": name, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": ["create", "delete", "list"]});
        let core = json!({"kind": "APIResourceList", "groupVersion": "v1",
                          "resources": [kind("pods", "Pod", true), kind("namespaces", "Namespace", false)]});
        let metrics = json!({"groupVersion": "metrics.k8s.io/v1", "version": "v1"});
        let groups = json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [
            {"name": "metrics.k8s.io", "versions": [metrics], "preferredVersion": metrics},
        ]});
        let versions = json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []});
        let down = json!({"metadata": {"name": "v1.metrics.k8s.io"},
            "spec": {"group": "metrics.k8s.io", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1,
                     "service": {"name": "metrics", "namespace": "kube-system"}},
            "status": {"conditions": [{"type": "Available", "status": "False"}]}});
        vec![
            (API_SERVICES, 200, list("APIServiceList", &[down])),
            ("GET /apis", 200, groups),
            (METRICS, 503, status(503, "the server is currently unable to handle the request")),
            ("GET /api", 200, versions),
            ("GET /api/v1", 200, core),
            (PODS, 200, list("PodList", &[])),
            (NAMESPACES, 200, list("NamespaceList", &[])),
        ]
    }

    /// What becomes of it where one question has another answer.
    async fn swept_but(other: &[(&'static str, u16, Value)]) -> Result<(), String> {
        let mut answers = cluster();
        answers.retain(|(asked, ..)| !other.iter().any(|(also, ..)| also == asked));
        answers.extend_from_slice(other);
        let server = StandIn::start(&answers).await;
        sweep(&server.client(), "r1").await
    }

    #[tokio::test]
    async fn a_server_of_somebody_elses_that_is_down_is_in_nobodys_way() {
        assert_eq!(swept_but(&[]).await, Ok(()));
        // Where nothing says that it is somebody else's, it is not passed over.
        let unable = (METRICS, 500, status(500, "it is unable to"));
        let none = swept_but(&[(API_SERVICES, 200, list("APIServiceList", &[])), unable]).await.unwrap_err();
        assert_eq!(none, "which kinds there are: it is unable to");
    }

    #[tokio::test]
    async fn a_kind_that_cannot_be_listed_now_may_be_what_is_left() {
        for (asked, kind) in [(PODS, "Pod"), (NAMESPACES, "Namespace")] {
            let left = swept_but(&[(asked, 500, status(500, "etcdserver: request timed out"))]).await.unwrap_err();
            assert_eq!(left, format!("what is left of {kind}: etcdserver: request timed out"));
        }
        assert_eq!(swept_but(&[(PODS, 405, status(405, "the server does not allow this method"))]).await, Ok(()));
    }

    #[tokio::test]
    async fn what_one_may_not_see_is_looked_for_only_where_one_may_make_it() {
        let forbidden = (PODS, 403, status(403, "pods is forbidden"));
        let review = |allowed: bool| (REVIEW, 201, json!({"spec": {}, "status": {"allowed": allowed}}));
        assert_eq!(swept_but(&[forbidden.clone(), review(false)]).await, Ok(()));
        let left = swept_but(&[forbidden, review(true)]).await.unwrap_err();
        assert_eq!(left, "what is left of Pod: pods is forbidden");
    }
}
