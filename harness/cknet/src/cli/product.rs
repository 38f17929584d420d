//! Which distribution a run is about: from words on the command line to a recipe.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use clap::ValueEnum;

use crate::distribution::Distribution;
use crate::distribution::canonical::Canonical;
use crate::distribution::kubeadm::Kubeadm;
use crate::distribution::microk8s::Microk8s;
use crate::distribution::rancher::Rancher;
use crate::distribution::recipe::{Cni, Install, ProbeImage, Proxy, Tell, image_name};
use crate::distribution::reference::{Reference, random_token};
use crate::event::RunStarted;
use crate::provider::Provider;

/// Where a process of our own finds the proxy with its password: unlike its words, no list of processes shows that.
const PROXY: &str = "CKNET_PROXY_OF_UP";

#[derive(Clone, Debug, Default, clap::Args)]
pub struct Product {
    /// What is installed on the nodes; `reference` unless given. All others need machines and not namespaces.
    #[arg(long, value_enum)]
    distribution: Option<Name>,
    /// Its channel or version: 1.36-classic/stable, 1.33/stable, v1.33.
    #[arg(long, value_name = "CHANNEL")]
    channel: Option<String>,
    /// The network of pods.
    #[arg(long, value_enum)]
    cni: Option<Cni>,
    /// The snap, or the program of K3s, as a file of this machine instead of a download; named again, a snap that it is
    /// based on.
    #[arg(long = "package", value_name = "FILE")]
    packages: Vec<PathBuf>,
    /// An archive of images that nodes get instead of pulling them; repeatable.
    #[arg(long, value_name = "FILE")]
    images: Vec<PathBuf>,
    /// The image of the pods that probe, as nodes can pull it; unless given, it is made of this executable and brought
    /// to every node.
    #[arg(long, value_name = "NAME", value_parser = image_name)]
    probe_image: Option<String>,
    /// The proxy that nodes use for downloads and images: http://proxy.example:3128.
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// What nodes reach without the proxy, besides the cluster itself, with commas between.
    #[arg(long, value_name = "LIST", value_delimiter = ',', requires = "proxy")]
    no_proxy: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    Reference,
    Canonical,
    Microk8s,
    K3s,
    Rke2,
    Kubeadm,
}

impl Product {
    /// What a former run was about, where the command line says nothing of it; `said` is its own command line, and
    /// `there` whether a file of it is still to be had.
    pub fn or_that_of(mut self, run: &RunStarted, said: Self, there: impl Fn(&Path) -> bool) -> Result<Self, String> {
        if self.distribution.is_some() {
            return Ok(self);
        }
        let name = Name::from_str(&run.distribution, false);
        self.distribution = Some(name.map_err(|_| format!("no distribution is called `{}`", run.distribution))?);
        self.channel = self.channel.or_else(|| run.variant.get("channel").cloned());
        let cni = run.variant.get("cni").and_then(|name| Cni::from_str(name, false).ok());
        self.cni = self.cni.or(cni);
        self.probe_image = self.probe_image.or(said.probe_image);
        self.proxy = match (self.proxy, said.proxy) {
            (None, Some(url)) if url.contains(HIDDEN) => {
                return Err("that run had a proxy with a password, which is in no report; name it with --proxy".into());
            }
            (named, proxy) => named.or(proxy),
        };
        if self.proxy.is_some() && self.no_proxy.is_empty() {
            self.no_proxy = said.no_proxy;
        }
        let kept = |file: &PathBuf| {
            let kept = there(file);
            if !kept {
                let file = file.display();
                super::note(&format!("warning: that run had the file `{file}`, which is not here; name it again"));
            }
            kept
        };
        if self.packages.is_empty() {
            // Without the first of them another one would pass for it.
            let wanted = said.packages.len();
            self.packages = said.packages.into_iter().filter(kept).collect();
            if self.packages.len() < wanted {
                self.packages.clear();
            }
        }
        if self.images.is_empty() {
            self.images = said.images.into_iter().filter(kept).collect();
        }
        Ok(self)
    }

    /// What a former run said of a cluster that was there already.
    pub fn or_probe_image_of(self, said: Self) -> Self {
        Self { probe_image: self.probe_image.clone().or(said.probe_image), ..self }
    }

    /// The words that say the same again; passwords stay out of reports.
    pub fn words(&self) -> Vec<String> {
        let value = |value: Option<clap::builder::PossibleValue>| value.map(|value| value.get_name().to_string());
        let path = |path: &PathBuf| path.display().to_string();
        let mut all = vec![
            ("--distribution", self.distribution.and_then(|name| value(name.to_possible_value()))),
            ("--channel", self.channel.clone()),
            ("--cni", self.cni.and_then(|cni| value(cni.to_possible_value()))),
            ("--probe-image", self.probe_image.clone()),
            ("--proxy", self.proxy.as_deref().map(without_password)),
            ("--no-proxy", (!self.no_proxy.is_empty()).then(|| self.no_proxy.join(","))),
        ];
        all.extend(self.packages.iter().map(|package| ("--package", Some(path(package)))));
        all.extend(self.images.iter().map(|image| ("--images", Some(path(image)))));
        all.into_iter().filter_map(|(flag, value)| Some([flag.to_string(), value?])).flatten().collect()
    }

    /// Tells a process of our own the same.
    pub fn tell(&self, command: &mut Command) {
        command.args(self.words());
        if let Some(proxy) = &self.proxy {
            command.env(PROXY, proxy);
        }
    }

    /// What such a process was told.
    pub fn told(mut self, environment: impl Fn(&str) -> Option<String>) -> Self {
        let whole = environment(PROXY).filter(|whole| self.proxy.as_ref() == Some(&without_password(whole)));
        self.proxy = whole.or(self.proxy);
        self
    }

    /// Whether anything but the reference distribution is meant.
    pub fn is_real(&self) -> bool {
        self.distribution.is_some_and(|name| name != Name::Reference)
    }

    /// What tells results apart, beside distribution and provider.
    pub fn variant(&self) -> impl Iterator<Item = (String, String)> {
        let channel = self.channel.clone().map(|channel| ("channel".to_string(), channel));
        let calico = (self.cni == Some(Cni::Calico)).then(|| ("cni".to_string(), "calico".to_string()));
        channel.into_iter().chain(calico)
    }

    /// The distribution; or why there is none such.
    pub fn distribution(&self, tell: Tell) -> Result<Arc<dyn Distribution>, String> {
        let name = self.distribution.unwrap_or(Name::Reference);
        if name == Name::Reference {
            return match self.words().iter().find(|word| word.starts_with("--") && *word != "--distribution") {
                Some(flag) => Err(format!("`{flag}` is for real distributions; name one with `--distribution`")),
                None => Ok(Arc::new(Reference)),
            };
        }
        // Found out now, and not when machines have been made.
        if let Some(file) = self.packages.iter().chain(&self.images).find(|file| !file.is_file()) {
            return Err(format!("there is no file `{}`", file.display()));
        }
        let install = self.install();
        let token = || random_token().map_err(|error| error.to_string());
        let problem = |error: crate::distribution::recipe::InstallError| error.to_string();
        Ok(match name {
            Name::Reference => Arc::new(Reference),
            Name::Canonical => Arc::new(Canonical::new(install, tell).map_err(problem)?),
            Name::Microk8s => Arc::new(Microk8s::new(install, tell).map_err(problem)?),
            Name::K3s => Arc::new(Rancher::k3s(install, tell, token()?).map_err(problem)?),
            Name::Rke2 => Arc::new(Rancher::rke2(install, tell, token()?).map_err(problem)?),
            Name::Kubeadm => Arc::new(Kubeadm::new(install, tell).map_err(problem)?),
        })
    }

    /// The flags that say what is installed, and how.
    pub fn installed(&self) -> Vec<String> {
        Self { probe_image: None, ..self.clone() }.words()
    }

    /// The name of an image that nodes pull.
    pub fn probe_image(&self) -> Option<&str> {
        self.probe_image.as_deref()
    }

    /// Found out now what machines would be made for in vain.
    fn probe(&self) -> ProbeImage {
        if let Some(name) = &self.probe_image {
            return ProbeImage::Pulled(name.clone());
        }
        match std::fs::read("/proc/self/exe") {
            Ok(executable) => ProbeImage::of(&executable),
            Err(error) => ProbeImage::Missing(format!("cannot read this executable: {error}")),
        }
    }

    fn install(&self) -> Install {
        let channel = self.channel.clone().unwrap_or_default();
        Install {
            channel,
            packages: self.packages.clone(),
            images: self.images.clone(),
            probe: self.probe(),
            cni: self.cni.unwrap_or_default(),
            proxy: self.proxy.clone().map(|url| Proxy { url, direct: self.no_proxy.clone() }),
        }
    }
}

/// What stands for a user and a password.
const HIDDEN: &str = "***@";

/// `http://user:word@host:1` as `http://***@host:1`.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_string() };
    match rest.rsplit_once('@') {
        Some((_, place)) => format!("{scheme}://{HIDDEN}{place}"),
        None => url.to_string(),
    }
}

/// Whether the distribution can be installed on this provider's nodes.
pub fn fits(provider: &dyn Provider, distribution: &dyn Distribution) -> Result<(), String> {
    if provider.gives_machines() || distribution.name() == Reference.name() || distribution.premises().is_some() {
        return match distribution.probe_image() {
            ProbeImage::Missing(why) => Err(why.clone()),
            _ => Ok(()),
        };
    }
    let (name, place) = (distribution.name(), provider.name());
    Err(format!(
        "distribution `{name}` cannot be installed on provider `{place}`: it needs machines with systemd and a package \
         or snap daemon of their own, and `{place}` gives namespaces of this machine"
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        product: Product,
    }

    /// A process of our own is told the password, and nobody who lists processes is.
    #[test]
    fn a_password_is_passed_on_beside_the_words() {
        let words = ["--distribution=canonical", "--channel=1.36-classic/stable", "--no-proxy=a.example,b.example"];
        let url = "http://user:p%40s@proxy.example:3128";
        let line = Line::parse_from(["cknet"].into_iter().chain(words).chain(["--proxy", url]));
        let mut command = Command::new("cknet");
        line.product.tell(&mut command);
        let argv: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        assert!(argv.iter().all(|word| !word.contains("p%40s")), "{argv:?}");
        let environment = |name: &str| {
            let found = command.get_envs().find(|(known, _)| *known == name)?.1?;
            Some(found.to_string_lossy().into_owned())
        };
        let other = Line::parse_from(std::iter::once("cknet".to_string()).chain(argv.clone())).product;
        let told = other.clone().told(environment);
        assert_eq!(told.install().proxy, line.product.install().proxy);
        assert_eq!(told.install().proxy.unwrap().url, url);
        assert_eq!(told.install().channel, "1.36-classic/stable");
        let stray = other.clone().told(|_| Some("http://user:word@elsewhere.example:1".into()));
        assert_eq!(stray.proxy, other.proxy, "another proxy is none of its business");
    }
}
