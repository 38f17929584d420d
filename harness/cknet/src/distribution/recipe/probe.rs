//! Owns where nodes have the image of the pods that probe from.

use std::sync::Arc;

use super::{DOWNLOAD, FOLDER, Stage, Step};
use crate::cluster::workloads::IMAGE;
use crate::image::image;

/// Where nodes have the probe image from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeImage {
    /// Nodes have it, whoever gave it to them.
    There,
    /// This archive is imported on every node, and pods pull nothing.
    Archive(Arc<[u8]>),
    /// Nodes pull it by this name.
    Pulled(String),
    /// There is none, and why.
    Missing(String),
}

impl ProbeImage {
    /// Made of an executable, which has to be a static one.
    pub fn of(executable: &[u8]) -> Self {
        match image(IMAGE, executable) {
            Ok(image) => Self::Archive(image.archive.into()),
            Err(error) => Self::Missing(format!(
                "pods on this distribution need the probe image, and it cannot be made of this executable: {error}; \
                 run a static build (`just static`), or name an image that nodes can pull: --probe-image NAME"
            )),
        }
    }

    /// The name by which pods ask for it, where nodes pull it.
    pub fn pulled(&self) -> Option<&str> {
        match self {
            Self::Pulled(name) => Some(name),
            _ => None,
        }
    }

    /// Gives it to a node whose containerd is asked by `ctr`: kubelets see one namespace of it alone.
    pub fn import(&self, ctr: &[&str]) -> Vec<Step> {
        let Self::Archive(archive) = self else { return Vec::new() };
        let path = format!("{FOLDER}/probe-image.tar");
        let import = [ctr, &["--namespace", "k8s.io", "images", "import", &path]].concat();
        vec![
            Step::bring(Stage::Probe, archive.clone(), &path),
            Step::run(Stage::Probe, import).within(DOWNLOAD),
            Step::run(Stage::Probe, ["rm", &path]),
        ]
    }
}

/// `registry.example:5000/team/probe:v1@sha256:…`, of which all but the path may be absent.
///
/// # Errors
/// When no registry would have an image of that name.
pub fn image_name(text: &str) -> Result<String, String> {
    let (named, digest) = text.split_once('@').map_or((text, None), |(named, digest)| (named, Some(digest)));
    if digest.is_some_and(|digest| !is_digest(digest)) {
        return Err("after the `@` of an image there is `sha256:` and 64 digits from 0 to f".into());
    }
    // A colon before the last slash begins a port.
    let from = named.rfind('/').map_or(0, |at| at + 1);
    let (path, tag) = match named[from..].find(':') {
        Some(at) => (&named[..from + at], Some(&named[from + at + 1..])),
        None => (named, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err("the tag of an image has letters, digits, `_`, `.` and `-`".into());
    }
    let path = match path.split_once('/') {
        Some((host, rest)) if is_host(host) => rest,
        _ => path,
    };
    if path.split('/').all(is_component) {
        return Ok(text.into());
    }
    Err("the name of an image has small letters, digits, `_`, `.` and `-` between slashes".into())
}

fn is_digest(text: &str) -> bool {
    let digits = text.strip_prefix("sha256:").unwrap_or_default();
    digits.len() == 64 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_tag(text: &str) -> bool {
    let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    begins && text.len() <= 128 && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

/// A registry's name has a dot or a port, or is this machine.
fn is_host(text: &str) -> bool {
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let looks = port.is_some() || host.contains('.') || host == "localhost";
    let plain = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-');
    looks && plain && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn is_component(text: &str) -> bool {
    let sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(sound) && text.ends_with(sound) && text.chars().all(|c| sound(c) || "_.-".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images_are_told_from_what_is_none() {
        let digest = format!("probe@sha256:{}", "0a".repeat(32));
        for name in
            ["probe", "probe:v1", "localhost:5000/probe", "ghcr.io/cknet/cknet-probe:v1", "Reg.example/a/b", &digest]
        {
            assert_eq!(image_name(name), Ok(name.to_string()));
        }
        for name in [
            "",
            "a b",
            "Probe",
            "probe:",
            "probe:-v1",
            "probe@sha256:00",
            "reg.example:99999/a",
            "a//b",
            "/a",
            "a/",
            "-a",
        ] {
            assert!(image_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn what_needs_libraries_of_a_machine_is_missing_with_both_ways_out() {
        let ProbeImage::Missing(why) = ProbeImage::of(b"#!/bin/sh") else { panic!("a script is no executable") };
        assert!(why.contains("just static") && why.contains("--probe-image NAME"), "{why}");
    }
}
