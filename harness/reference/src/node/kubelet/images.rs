//! What an image name means here: a personality of our own executable instead of a file system from a registry.
//!
//! It knows names and argument lists, nothing of processes.

use std::path::Path;

/// An image that can be run.
#[derive(Debug, PartialEq, Eq)]
pub struct Image {
    /// The end of the repository path that names it, without registry and tag.
    pub repository: &'static str,
    pub entrypoint: Entrypoint,
    /// What follows it when the spec gives neither a command nor arguments: the `CMD` of an image.
    pub arguments: &'static [&'static str],
}

/// What an image starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entrypoint {
    /// A part of the cluster: the arguments that make the executable what the image is.
    Own(&'static [&'static str]),
    /// The words of a public image, which is given a root folder with our programs under its programs' names.
    Public(&'static [&'static str]),
}

impl Image {
    pub fn is_public(&self) -> bool {
        matches!(self.entrypoint, Entrypoint::Public(_))
    }
}

const fn own(
    repository: &'static str,
    personality: &'static [&'static str],
    arguments: &'static [&'static str],
) -> Image {
    Image { repository, entrypoint: Entrypoint::Own(personality), arguments }
}

const fn public(
    repository: &'static str,
    entrypoint: &'static [&'static str],
    arguments: &'static [&'static str],
) -> Image {
    Image { repository, entrypoint: Entrypoint::Public(entrypoint), arguments }
}

/// All of them.
pub const IMAGES: &[Image] = &[
    own("cknet-probe", &["probe", "serve"], &["--listen", "8080/tcp"]),
    own("calico/node", &["calico-node"], &[]),
    own("flannel/flannel", &["flanneld"], &[]),
    own("coredns/coredns", &["dns"], &[]),
    own("pause", &["pause"], &[]),
    public("agnhost", &["/agnhost"], &["pause"]),
    public("alpine", &[], &["/bin/sh"]),
    public("app-on-two-ports", &[], &["two-ports"]),
    public("busybox", &[], &["sh"]),
    public("busyboxplus", &[], &["sh"]),
    public("curl", &["entrypoint", "curl"], &["curl"]),
    public("debian", &[], &["sh"]),
    public("dnsutils", &[], &["sleep", "infinity"]),
    public("hello-app", &["hello-app"], &[]),
    public("http-echo", &["http-echo"], &[]),
    public("httpd", &[], &["httpd-foreground"]),
    public("jessie-dnsutils", &[], &["sleep", "infinity"]),
    public("netshoot", &[], &["sh"]),
    public("network-multitool", &["entrypoint", "nginx"], &["nginx", "-g", "daemon off;"]),
    public("nginx", &["entrypoint", "nginx"], &["nginx", "-g", "daemon off;"]),
    public("registry", &["registry"], &[]),
    public("redis", &["entrypoint", "redis-server"], &["redis-server"]),
    public("ubuntu", &[], &["sh"]),
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
        [] => match image.entrypoint {
            Entrypoint::Own(personality) => std::iter::once(executable.display().to_string())
                .chain(personality.iter().map(ToString::to_string))
                .collect(),
            Entrypoint::Public(words) => words.iter().map(ToString::to_string).collect(),
        },
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
    fn a_known_image_is_found_whatever_its_registry_and_tag(
        #[case] image: &str,
        #[case] personality: &'static [&'static str],
    ) {
        assert_eq!(find(image).unwrap().entrypoint, Entrypoint::Own(personality));
    }

    #[rstest]
    #[case("postgres")]
    #[case("not-agnhost")]
    #[case("not-cknet-probe")]
    #[case("docker.io/mycalico/node")]
    #[case("calico/node/more")]
    #[case("")]
    fn an_unknown_image_is_named_with_those_that_are_known(#[case] image: &str) {
        let message = find(image).unwrap_err().to_string();
        assert!(message.starts_with("the reference distribution runs no container images: `"), "{message}");
        assert!(message.contains(&format!("`{image}` is not one of `cknet-probe`, `calico/node`")), "{message}");
    }

    #[rstest]
    #[case("registry.k8s.io/e2e-test-images/agnhost:2.53", &["/agnhost", "pause"])]
    #[case("agnhost", &["/agnhost", "pause"])]
    #[case("busybox:1.36", &["sh"])]
    #[case("docker.io/library/alpine", &["/bin/sh"])]
    #[case("nginx:1.27-alpine", &["entrypoint", "nginx", "nginx", "-g", "daemon off;"])]
    #[case("curlimages/curl:8.8.0", &["entrypoint", "curl", "curl"])]
    fn a_public_image_starts_what_it_is_known_for(#[case] name: &str, #[case] line: &[&str]) {
        let image = find(name).unwrap();
        assert!(image.is_public());
        assert_eq!(command_line(image, Path::new("/opt/cknet"), &[], &[]), line);
        let args = ["netexec".to_string()];
        let replaced = command_line(image, Path::new("/opt/cknet"), &["/agnhost".into()], &args);
        assert_eq!(replaced, ["/agnhost", "netexec"]);
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
