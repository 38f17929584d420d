//! From which block services get addresses, as the API server of a cluster that is there already tells it. Nothing is
//! made there.

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::Client;
use kube::api::{Api, ListParams, PostParams};
use serde_json::json;

use super::SurveyError;
use crate::cluster::objects::answer;

/// The block that a server is started with, among those that were added later.
const FIRST: &str = "kubernetes";

/// Before the block in a refusal.
const BEFORE: &str = "The range of valid IPs is ";

/// What the API answers where it serves no such kind, and where somebody may not see it.
const ABSENT: u16 = 404;
const FORBIDDEN: u16 = 403;

/// The block of service addresses.
///
/// Since Kubernetes 1.33 it is an object. An older server, or one that does not show it to everybody, names the block
/// when it refuses an address outside of it in a dry run.
pub(super) async fn service_cidr(client: &Client) -> Result<Ipv4Net, SurveyError> {
    let api: Api<ServiceCIDR> = Api::all(client.clone());
    match api.list(&ListParams::default()).await {
        Ok(found) => match chosen(&found.items) {
            Some(block) => Ok(block),
            None => refused(client).await,
        },
        Err(kube::Error::Api(status)) if [ABSENT, FORBIDDEN].contains(&status.code) => refused(client).await,
        Err(error) => Err(SurveyError::Silent(answer(&error))),
    }
}

/// The block of IPv4 that services get addresses from unless they ask for others.
fn chosen(all: &[ServiceCIDR]) -> Option<Ipv4Net> {
    // One that is going, or that nobody has looked at yet, gives no address.
    let ready = |cidr: &&ServiceCIDR| {
        let conditions = cidr.status.as_ref().and_then(|status| status.conditions.as_ref());
        let ready = conditions.and_then(|all| all.iter().find(|condition| condition.type_ == "Ready"));
        cidr.metadata.deletion_timestamp.is_none() && ready.is_none_or(|condition| condition.status == "True")
    };
    let mut usable: Vec<&ServiceCIDR> = all.iter().filter(ready).collect();
    usable.sort_by_key(|cidr| (cidr.metadata.name.as_deref() != Some(FIRST), cidr.metadata.name.clone()));
    let blocks = usable.into_iter().filter_map(|cidr| cidr.spec.as_ref()?.cidrs.as_ref()).flatten();
    blocks.filter_map(|block| block.parse().ok()).next()
}

/// The block as it is named in a refusal.
async fn refused(client: &Client) -> Result<Ipv4Net, SurveyError> {
    let unknown = |said: String| {
        SurveyError::Unfit(format!("from which block services get addresses cannot be found out: {said}"))
    };
    let wrong = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "cknet-asks-for-the-service-cidr"},
        "spec": {"clusterIP": "0.0.0.1", "ports": [{"port": 1}]},
    });
    let service: Service = serde_json::from_value(wrong).map_err(|error| unknown(error.to_string()))?;
    let parameters = PostParams { dry_run: true, ..PostParams::default() };
    let said = match Api::<Service>::namespaced(client.clone(), "default").create(&parameters, &service).await {
        Ok(_) => return Err(unknown("the address 0.0.0.1 was taken".into())),
        Err(error) => answer(&error),
    };
    named(&said).ok_or_else(|| unknown(said))
}

fn named(said: &str) -> Option<Ipv4Net> {
    let (_, rest) = said.split_once(BEFORE)?;
    rest.split([',', ' ', '"']).next()?.trim_end_matches('.').parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::stand_in::{StandIn, status};
    use super::*;
    use serde_json::Value;

    const LIST: &str = "GET /apis/networking.k8s.io/v1/servicecidrs";
    const TRY: &str = "POST /api/v1/namespaces/default/services?&dryRun=All";

    /// `pkg/registry/core/service/ipallocator` up to Kubernetes 1.32, and since then in a dry run.
    const OLD: &str = "Service \"x\" is invalid: spec.clusterIPs: Invalid value: []string{\"0.0.0.1\"}: failed to allocate \
                       IP 0.0.0.1: the provided IP (0.0.0.1) is not in the valid range. The range of valid IPs is 10.152.183.0/24";

    fn block(name: &str, cidrs: &[&str], ready: &str) -> Value {
        json!({"metadata": {"name": name}, "spec": {"cidrs": cidrs}, "status": {"conditions": [{
            "type": "Ready", "status": ready, "reason": "", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]}})
    }

    fn list(items: &[Value]) -> Value {
        json!({"kind": "ServiceCIDRList", "apiVersion": "networking.k8s.io/v1", "metadata": {}, "items": items})
    }

    async fn asked(answers: &[(&'static str, u16, Value)]) -> Result<String, String> {
        let server = StandIn::start(answers).await;
        service_cidr(&server.client()).await.map(|block| block.to_string()).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_server_that_has_the_block_as_an_object_is_not_asked_again() {
        let first = block("kubernetes", &["fd00::/112", "10.96.0.0/12"], "True");
        let added = block("added", &["10.200.0.0/16"], "True");
        assert_eq!(asked(&[(LIST, 200, list(&[added.clone(), first]))]).await.unwrap(), "10.96.0.0/12");
        // The first one is going: services get addresses from the other.
        let going = block("kubernetes", &["10.96.0.0/12"], "False");
        assert_eq!(asked(&[(LIST, 200, list(&[going, added]))]).await.unwrap(), "10.200.0.0/16");
    }

    #[tokio::test]
    async fn an_older_server_names_the_block_when_it_refuses_an_address() {
        for code in [404, 403] {
            let answers = [(LIST, code, status(code, "no")), (TRY, 422, status(422, OLD))];
            assert_eq!(asked(&answers).await.unwrap(), "10.152.183.0/24", "{code}");
        }
    }

    #[tokio::test]
    async fn a_server_that_says_neither_is_told_with_its_words() {
        let new = "failed to allocate IP 0.0.0.1: the provided network does not match the current range";
        let said = asked(&[(LIST, 404, status(404, "no")), (TRY, 422, status(422, new))]).await.unwrap_err();
        assert_eq!(said, format!("from which block services get addresses cannot be found out: {new}"));
        let said = asked(&[(LIST, 500, status(500, "etcd is away"))]).await.unwrap_err();
        assert_eq!(said, "the cluster does not answer: etcd is away");
    }
}
