//! What an image name means here: a personality of our own executable instead of a file system from a registry.
//!
//! It knows names and argument lists, nothing of processes.

use std::path::Path;

/// An image that can be run.
#[derive(Debug, PartialEq, Eq)]
pub struct Image {
    /// The end of the repository path that names it, without registry and tag.
    pub repository: &'static str,
    /// The arguments that make the executable what the image is.
    pub personality: &'static [&'static str],
    /// What follows them when the spec gives neither a command nor arguments: the `CMD` of an image.
    pub arguments: &'static [&'static str],
}

/// All of them.
pub const IMAGES: &[Image] = &[
    Image { repository: "cknet-probe", personality: &["probe", "serve"], arguments: &["--listen", "8080/tcp"] },
    Image { repository: "calico/node", personality: &["calico-node"], arguments: &[] },
    Image { repository: "flannel/flannel", personality: &["flanneld"], arguments: &[] },
    Image { repository: "coredns/coredns", personality: &["dns"], arguments: &[] },
    Image { repository: "pause", personality: &["pause"], arguments: &[] },
];

/// An image that this distribution cannot run.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the reference distribution runs no container images: `{image}` is not one of {}", known())]
pub struct UnknownImage {
    image: String,
}

fn known() -> String {
    IMAGES.iter().map(|image| format!("`{}`", image.repository)).collect::<Vec<_>>().join(", ")
}

/// Finds what `image` (`[registry/]repository[:tag][@digest]`) means.
pub fn find(image: &str) -> Result<&'static Image, UnknownImage> {
    let repository = repository(image);
    IMAGES
        .iter()
        .find(|known| {
            repository.strip_suffix(known.repository).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
        })
        .ok_or_else(|| UnknownImage { image: image.into() })
}

fn repository(image: &str) -> &str {
    let undigested = image.split_once('@').map_or(image, |(name, _)| name);
    match undigested.rsplit_once(':') {
        // A colon before the last slash belongs to the registry's port.
        Some((name, tag)) if !tag.contains('/') => name,
        _ => undigested,
    }
}

/// The command line of a container, as Kubernetes combines image and spec: `command` replaces all of the image's own,
/// `args` its arguments.
pub fn command_line(image: &Image, executable: &Path, command: &[String], args: &[String]) -> Vec<String> {
    let mut line: Vec<String> = match command {
        [] => std::iter::once(executable.display().to_string())
            .chain(image.personality.iter().map(ToString::to_string))
            .collect(),
        replaced => replaced.to_vec(),
    };
    if command.is_empty() && args.is_empty() {
        line.extend(image.arguments.iter().map(ToString::to_string));
    }
    line.extend_from_slice(args);
    line
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("cknet-probe", &["probe", "serve"])]
    #[case("cknet-probe:latest", &["probe", "serve"])]
    #[case("localhost:5000/team/cknet-probe", &["probe", "serve"])]
    #[case("docker.io/calico/node:v3.31.2", &["calico-node"])]
    #[case("quay.io/calico/node@sha256:0123", &["calico-node"])]
    #[case("registry.k8s.io/coredns/coredns:v1.11.3", &["dns"])]
    #[case("registry.k8s.io/pause:3.10", &["pause"])]
    fn a_known_image_is_found_whatever_its_registry_and_tag(#[case] image: &str, #[case] personality: &[&str]) {
        assert_eq!(find(image).unwrap().personality, personality);
    }

    #[rstest]
    #[case("nginx")]
    #[case("not-cknet-probe")]
    #[case("docker.io/mycalico/node")]
    #[case("calico/node/more")]
    #[case("")]
    fn an_unknown_image_is_named_with_those_that_are_known(#[case] image: &str) {
        let message = find(image).unwrap_err().to_string();
        assert!(message.starts_with("the reference distribution runs no container images: `"), "{message}");
        assert!(message.contains(&format!("`{image}` is not one of `cknet-probe`, `calico/node`")), "{message}");
    }

    #[test]
    fn a_command_replaces_the_personality_and_args_the_arguments() {
        let image = find("cknet-probe").unwrap();
        let exe = Path::new("/opt/cknet");
        let args = ["--listen".to_string(), "80/tcp".to_string()];
        assert_eq!(command_line(image, exe, &[], &args), ["/opt/cknet", "probe", "serve", "--listen", "80/tcp"]);
        assert_eq!(command_line(image, exe, &[], &[]), ["/opt/cknet", "probe", "serve", "--listen", "8080/tcp"]);
        assert_eq!(command_line(image, exe, &["sh".into()], &[]), ["sh"]);
        assert_eq!(command_line(image, exe, &["sh".into()], &args), ["sh", "--listen", "80/tcp"]);
    }
}
