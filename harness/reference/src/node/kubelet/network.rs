//! The seam between the kubelet and the pod network: what it asks of the plugins, and the notice of whether there
//! are any. It must not know how a plugin works.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use cknet_kernel::folder::FolderWatch;
use futures::future::BoxFuture;
use tokio::sync::watch;

use super::journal::journal;
use crate::node::cni::{Attachment, Plugins, PodSandbox};

/// What the network of pods does for a kubelet; an error is the text that ends up in an event.
pub trait PodNetwork: Send + Sync {
    /// The configuration in force, or why there is none.
    fn readiness(&self) -> Result<PathBuf, String>;
    /// Attaches a sandbox; the answer is its address.
    fn add<'a>(&'a self, sandbox: PodSandbox<'a>) -> BoxFuture<'a, Result<Ipv4Addr, String>>;
    /// Detaches a sandbox; one that was never attached is no error.
    fn delete<'a>(&'a self, sandbox: PodSandbox<'a>) -> BoxFuture<'a, Result<(), String>>;
}

impl PodNetwork for Plugins {
    fn readiness(&self) -> Result<PathBuf, String> {
        Plugins::readiness(self)
    }

    fn add<'a>(&'a self, sandbox: PodSandbox<'a>) -> BoxFuture<'a, Result<Ipv4Addr, String>> {
        Box::pin(async move {
            let Attachment { address, .. } = Plugins::add(self, &sandbox).await.map_err(|error| error.to_string())?;
            Ok(address)
        })
    }

    fn delete<'a>(&'a self, sandbox: PodSandbox<'a>) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move { Plugins::delete(self, &sandbox).await.map_err(|error| error.to_string()) })
    }
}

/// Whether pods can get a network now; changes are told.
pub type Readiness = watch::Receiver<Result<PathBuf, String>>;

/// Follows the readiness of `network`, which may change whenever something in `folder` does.
pub fn follow_readiness(network: Arc<dyn PodNetwork>, folder: PathBuf) -> io::Result<Readiness> {
    fs::create_dir_all(&folder)?;
    let mut changes = FolderWatch::new(&folder)?;
    // Looked at after the watch began, so that no change falls between.
    let (told, readiness) = watch::channel(network.readiness());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = told.closed() => return,
                change = changes.changed() => if let Err(error) = change {
                    journal(format_args!("cannot watch `{}` any more: {error}", folder.display()));
                    return;
                },
            }
            if !folder.exists() {
                // The watch died with the folder; a real kubelet makes it again as well.
                match fs::create_dir_all(&folder).and_then(|()| FolderWatch::new(&folder)) {
                    Ok(again) => changes = again,
                    Err(error) => journal(format_args!("cannot watch `{}` any more: {error}", folder.display())),
                }
            }
            let now = network.readiness();
            told.send_if_modified(|before| {
                let differs = *before != now;
                *before = now;
                differs
            });
        }
    });
    Ok(readiness)
}
