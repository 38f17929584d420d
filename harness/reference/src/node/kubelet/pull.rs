//! Which images a node has to pull, and the pulling: an image whose registry is given by address and port is fetched
//! from there, over plain HTTP and as the node's proxy settings say. All others are on every node.
//!
//! What a container of the image does is no affair of the registry; it is decided by the image's name, as ever.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use cknet_images::registry::{self, Reference};

/// Where Canonical Kubernetes has the variables of the service that pulls images. They are read at each pull, as if that
/// service had been started anew.
const SETTINGS: &str = "/etc/systemd/system/snap.k8s.containerd.service.d/http-proxy.conf";

/// The images that were pulled.
#[derive(Default)]
pub struct Pulled(Mutex<BTreeSet<String>>);

impl Pulled {
    fn has(&self, image: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(image)
    }

    fn add(&self, image: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(image.into());
    }
}

/// What has to be done for an image before a container of it can start.
#[derive(Debug, PartialEq, Eq)]
pub enum Wanted {
    Nothing,
    Pull(Reference),
    /// It is not there, and the container says that it must not be pulled.
    Forbidden,
}

/// What a policy (`Always`, `IfNotPresent`, `Never`) wants of an image.
pub fn wanted(image: &str, policy: Option<&str>, pulled: &Pulled) -> Wanted {
    match (Reference::at_an_address(image), policy) {
        (None, _) => Wanted::Nothing,
        (Some(reference), Some("Always")) => Wanted::Pull(reference),
        (Some(_), _) if pulled.has(image) => Wanted::Nothing,
        (Some(_), Some("Never")) => Wanted::Forbidden,
        (Some(reference), _) => Wanted::Pull(reference),
    }
}

/// Pulls an image; the error is in containerd's words.
pub async fn pull(image: &str, reference: Reference, pulled: &Pulled) -> Result<(), String> {
    let settings = std::fs::read_to_string(SETTINGS).unwrap_or_default();
    let work = move || registry::pull(&reference, &|name| variable(&settings, name));
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())??;
    pulled.add(image);
    Ok(())
}

/// The value of a variable in a part of a unit of systemd (systemd.exec(5)): lines `Environment="NAME=value" ...`, of
/// which the last one counts.
fn variable(settings: &str, name: &str) -> Option<String> {
    let lines = settings.lines().filter_map(|line| line.trim().strip_prefix("Environment="));
    let assignments = lines.flat_map(|line| {
        let quoted = line.split('"').skip(1).step_by(2);
        let plain = line.split('"').step_by(2).flat_map(str::split_whitespace);
        quoted.chain(plain)
    });
    let values = assignments.filter_map(|one| one.split_once('=')).filter(|(known, _)| *known == name);
    values.last().map(|(_, value)| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const ELSEWHERE: &str = "192.0.2.5:5000/agnhost:2.53";

    #[rstest]
    #[case("quay.io/calico/node:v3.31", Some("Always"), false, false)]
    #[case(ELSEWHERE, Some("Always"), true, true)]
    #[case(ELSEWHERE, Some("IfNotPresent"), false, true)]
    #[case(ELSEWHERE, Some("IfNotPresent"), true, false)]
    #[case(ELSEWHERE, None, true, false)]
    fn an_image_is_pulled_when_its_policy_says_so(
        #[case] image: &str,
        #[case] policy: Option<&str>,
        #[case] is_there: bool,
        #[case] expected: bool,
    ) {
        let pulled = Pulled::default();
        if is_there {
            pulled.add(image);
        }
        assert_eq!(matches!(wanted(image, policy, &pulled), Wanted::Pull(_)), expected);
    }

    #[test]
    fn what_must_not_be_pulled_is_not_pulled() {
        assert_eq!(wanted(ELSEWHERE, Some("Never"), &Pulled::default()), Wanted::Forbidden);
    }

    #[test]
    fn variables_stand_in_the_unit_of_the_service() {
        let text =
            "[Service]\nEnvironment=\"HTTP_PROXY=http://p:1\" A=b\nEnvironment=\"NO_PROXY=a,b c\"\nEnvironment=A=c\n";
        assert_eq!(variable(text, "HTTP_PROXY").as_deref(), Some("http://p:1"));
        assert_eq!(variable(text, "NO_PROXY").as_deref(), Some("a,b c"));
        assert_eq!(variable(text, "A").as_deref(), Some("c"));
        assert_eq!(variable(text, "http_proxy"), None);
        assert_eq!(variable("HTTP_PROXY=x", "HTTP_PROXY"), None);
    }
}
