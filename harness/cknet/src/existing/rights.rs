//! What the user of a kubeconfig may do, as the API server itself says.

use futures::future::try_join_all;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::Client;
use kube::api::{Api, PostParams};

use super::SurveyError;
use crate::cluster::objects::answer;

/// What every run does.
const NEEDED: [(&str, &str); 4] =
    [("create", "namespaces"), ("delete", "namespaces"), ("create", "pods"), ("list", "pods")];

/// Whether this user may do something; what every namespace has is asked of one namespace, or of all.
pub(super) async fn may(
    client: &Client,
    verb: &str,
    (group, resource): (&str, &str),
    namespace: Option<&str>,
) -> Result<bool, kube::Error> {
    let attributes = ResourceAttributes {
        group: Some(group.into()),
        resource: Some(resource.into()),
        verb: Some(verb.into()),
        namespace: namespace.map(Into::into),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
    let question = SelfSubjectAccessReview { spec, ..Default::default() };
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answered = api.create(&PostParams::default(), &question).await?;
    Ok(answered.status.is_none_or(|status| status.allowed))
}

/// That this user may do what every run does: found out before anything is made.
pub(super) async fn check(client: &Client) -> Result<(), SurveyError> {
    let each = NEEDED.iter().map(|(verb, resource)| async move {
        let may = may(client, verb, ("", resource), None).await?;
        Ok::<_, kube::Error>((!may).then(|| format!("{verb} {resource}")))
    });
    let lacking = try_join_all(each).await.map_err(|error| SurveyError::Silent(answer(&error)))?;
    let lacking: Vec<String> = lacking.into_iter().flatten().collect();
    if lacking.is_empty() {
        return Ok(());
    }
    let lacking = lacking.join(", ");
    Err(SurveyError::Unfit(format!(
        "the user of the kubeconfig may not {lacking}: a run makes namespaces and privileged pods, and deletes them"
    )))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::stand_in::StandIn;
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn what_one_may_not_do_is_told_before_anything_is_made() {
        for (allowed, wanted) in
            [(true, None), (false, Some("may not create namespaces, delete namespaces, create pods"))]
        {
            let told = json!({"spec": {}, "status": {"allowed": allowed}});
            let asked = "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
            let server = StandIn::start(&[(asked, 201, told)]).await;
            let said = check(&server.client()).await.err().map(|error| error.to_string());
            assert_eq!(said.is_some(), wanted.is_some());
            assert!(said.is_none_or(|said| said.contains(wanted.unwrap_or_default())));
        }
    }
}
