//! Pods made from templates, and the short hashes that name a version of a template. Pure.

use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use sha2::{Digest, Sha256};

/// The letters of Kubernetes' generated names: no vowels and no look-alikes, so no words come out.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

pub(super) const TEMPLATE_HASH: &str = "pod-template-hash";

/// Ten letters that are the same exactly for templates that differ in nothing but their hash label.
///
/// `collisions` makes another name for the same template when the first one is taken by somebody else.
pub(super) fn template_hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    let mut template = template.clone();
    if let Some(labels) = template.metadata.as_mut().and_then(|meta| meta.labels.as_mut()) {
        labels.remove(TEMPLATE_HASH);
    }
    let text = serde_json::to_string(&template).unwrap_or_default();
    letters(&format!("{text}{}", collisions.unwrap_or(0)), 10)
}

/// `count` letters, at most 32, that depend on nothing but `text`.
pub(super) fn letters(text: &str, count: usize) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(count).map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()])).collect()
}

/// A pod of `template` that the server will give a name beginning with that of its owner.
pub(super) fn pod_from(template: &PodTemplateSpec, namespace: &str, owner: OwnerReference) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", owner.name)),
            namespace: Some(namespace.to_owned()),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner]),
            ..Default::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use serde_json::{Value, json};

    fn template(value: Value) -> PodTemplateSpec {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_hash_follows_the_template_and_not_its_own_label() {
        let plain = template(json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": []}}));
        let labelled = template(json!({
            "metadata": {"labels": {"app": "a", "pod-template-hash": "x"}}, "spec": {"containers": []}}));
        let other = template(json!({"metadata": {"labels": {"app": "b"}}, "spec": {"containers": []}}));
        assert_eq!(template_hash(&plain, None), template_hash(&labelled, Some(0)));
        assert_ne!(template_hash(&plain, None), template_hash(&other, None));
        assert_ne!(template_hash(&plain, None), template_hash(&plain, Some(1)));
        assert_eq!(template_hash(&plain, None).len(), 10);
    }
}
