//! Owns what a user says about the distribution that is wanted: channel, files instead of downloads, CNI, proxy.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::{ProbeImage, Proxy, Stage, Step};

/// The distribution that is wanted, beyond what a scenario says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Install {
    /// As the distribution's own tools know it: `1.36-classic/stable`, `v1.33`, `stable`.
    pub channel: String,
    /// The snap or the program itself, as a file of this machine, instead of a download; then the snaps that it is based
    /// on.
    pub packages: Vec<PathBuf>,
    /// Archives of images, which no node has to pull then.
    pub images: Vec<PathBuf>,
    pub probe: ProbeImage,
    pub cni: Cni,
    pub proxy: Option<Proxy>,
}

/// The network of pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Cni {
    /// What the distribution brings.
    #[default]
    Stock,
    /// Calico, where the distribution documents it as an alternative.
    Calico,
}

/// A minor version of Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u16,
    pub minor: u16,
}

impl Version {
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// `1.36-classic/stable`, `1.32/stable`, `v1.33` and `v1.33.4+k3s1` name a version.
impl FromStr for Version {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let (major, rest) = text.split_once('.').ok_or(())?;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (minor, after) = rest.split_at(end);
        if !(after.is_empty() || after.starts_with(['-', '/', '.'])) {
            return Err(());
        }
        Ok(Self { major: major.parse().map_err(|_| ())?, minor: minor.parse().map_err(|_| ())? })
    }
}

/// What was asked for cannot be installed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InstallError {
    #[error("{distribution} needs `--channel`, such as {example}")]
    NoChannel { distribution: &'static str, example: &'static str },
    #[error("{distribution}: the channel `{channel}` names no version, such as {example} does")]
    NoVersion { distribution: &'static str, channel: String, example: &'static str },
    #[error(
        "{distribution}: the channel `{channel}` is not of the form {example}, with stable, candidate, beta or edge"
    )]
    NoRisk { distribution: &'static str, channel: String, example: &'static str },
    #[error("{distribution} {version} is not supported; {from} to {to} are")]
    Unsupported { distribution: &'static str, version: Version, from: Version, to: Version },
    #[error("{distribution} brings its own CNI; `--cni calico` is for canonical")]
    NoAlternative { distribution: &'static str },
    #[error("{distribution} is not installed from a file; `--package` is for the others")]
    NoPackage { distribution: &'static str },
    #[error("{distribution} is one file; `--package` is named several times for snaps and what they are based on")]
    OnePackage { distribution: &'static str },
}

impl Install {
    /// The version that the channel names, which has to be one of those for which the recipe was written.
    pub fn within(
        &self,
        distribution: &'static str,
        example: &'static str,
        from: Version,
        to: Version,
    ) -> Result<Version, InstallError> {
        within(&self.channel, distribution, example, from, to)
    }

    /// Copies of all archives of images into a folder that the distribution imports by itself; numbered where two of them
    /// have the same name.
    pub fn copy_images<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = Step> + 'a {
        let names: BTreeSet<String> = self.images.iter().map(|path| name_of(path)).collect();
        let numbered = names.len() < self.images.len();
        self.images.iter().enumerate().map(move |(number, path)| {
            let number = if numbered { format!("{number}-") } else { String::new() };
            Step::copy(Stage::Images, path, format!("{folder}/{number}{}", name_of(path)))
        })
    }
}

/// The version that a channel names, which has to be one of those for which a recipe was written.
pub fn within(
    channel: &str,
    distribution: &'static str,
    example: &'static str,
    from: Version,
    to: Version,
) -> Result<Version, InstallError> {
    if channel.is_empty() {
        return Err(InstallError::NoChannel { distribution, example });
    }
    let no_version = |()| InstallError::NoVersion { distribution, channel: channel.into(), example };
    let version = channel.parse().map_err(no_version)?;
    if !(from..=to).contains(&version) {
        return Err(InstallError::Unsupported { distribution, version, from, to });
    }
    Ok(version)
}

/// A channel of a snap is a track, which brings its stable risk, or a track, a risk and perhaps a branch.
pub fn of_a_snap(channel: &str, distribution: &'static str, example: &'static str) -> Result<(), InstallError> {
    let parts: Vec<&str> = channel.split('/').collect();
    let risk = |part: &str| matches!(part, "stable" | "candidate" | "beta" | "edge");
    match parts[..] {
        [_] => Ok(()),
        [_, one] if risk(one) => Ok(()),
        [_, one, branch] if risk(one) && !branch.is_empty() => Ok(()),
        _ => Err(InstallError::NoRisk { distribution, channel: channel.into(), example }),
    }
}

/// The last part of a path.
pub(super) fn name_of(path: &std::path::Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_name_versions_or_do_not() {
        for (channel, version) in [
            ("1.36-classic/stable", Some(Version::new(1, 36))),
            ("1.32/stable", Some(Version::new(1, 32))),
            ("v1.33", Some(Version::new(1, 33))),
            ("v1.33.4+k3s1", Some(Version::new(1, 33))),
            ("latest/edge", None),
            ("stable", None),
            ("1.", None),
            ("1.36x", None),
        ] {
            assert_eq!(channel.parse().ok(), version, "{channel}");
        }
    }

    #[test]
    fn channels_of_snaps_end_in_a_risk_or_a_branch() {
        for (channel, right) in [
            ("1.36-classic/stable", true),
            ("1.36", true),
            ("1.36/edge/mend-dns", true),
            ("1.36/stabel", false),
            ("1.36/", false),
            ("1.36/edge/", false),
            ("1.36/edge/a/b", false),
        ] {
            assert_eq!(of_a_snap(channel, "canonical", "1.36/stable").is_ok(), right, "{channel}");
        }
    }
}
