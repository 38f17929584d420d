//! What a cluster looks like at this moment, as texts for whoever has to understand a failure after it is gone: what
//! the nodes know of their network, what the API holds, what components and pods have logged.
//!
//! It only looks. Everything is asked for at the same time, within one deadline for all; what could not be had says
//! why. Where the texts go is not known here.

mod api;
mod logs;
mod nodes;
mod table;

use std::future::Future;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use kube::Client;

use super::objects::Objects;
use crate::distribution::{ClusterSpec, Distribution};
use crate::provider::Nodes;
use crate::scenario::Profile;

/// Longest time for all of it.
const WHOLE: Duration = Duration::from_secs(10);

/// Longest time for a program on a node: what does not end by itself can still be told as such.
const COMMAND: Duration = Duration::from_secs(8);

/// Longest time for one answer of the API; logs are asked for once the pods are known.
const REQUEST: Duration = Duration::from_secs(4);

/// One text, and under which path it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub path: String,
    /// Or why it could not be had.
    pub text: Result<String, String>,
}

impl Piece {
    pub fn new(path: impl Into<String>, text: Result<String, String>) -> Self {
        Self { path: path.into(), text }
    }
}

/// A pod that is of special interest: those of the scenario.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OwnPod {
    pub namespace: String,
    pub name: String,
    /// Its machine and its network there, where it has one of its own.
    pub network: Option<(String, String)>,
}

/// Where to look.
pub struct Scene<'a> {
    pub nodes: &'a Nodes,
    pub spec: &'a ClusterSpec,
    pub distribution: &'a dyn Distribution,
    pub pods: Vec<OwnPod>,
    /// `None` as long as there is no API.
    pub api: Option<Api<'a>>,
}

/// The way to ask a cluster for its objects.
#[derive(Clone, Copy)]
pub struct Api<'a> {
    pub client: &'a Client,
    pub objects: &'a Objects,
    pub profile: &'a Profile,
}

/// Something to look at, and the path that is told when it was not looked at in time.
struct Look<'a> {
    path: String,
    pieces: BoxFuture<'a, Vec<Piece>>,
}

impl<'a> Look<'a> {
    fn one(path: String, text: impl Future<Output = Result<String, String>> + Send + 'a) -> Self {
        let told = path.clone();
        Self { path, pieces: async move { vec![Piece::new(told, text.await)] }.boxed() }
    }
}

/// Ends when the time for all of it is over, and says so.
pub async fn whole() -> String {
    tokio::time::sleep(WHOLE).await;
    format!("not within {WHOLE:?}")
}

/// Looks at everything, until `over` ends and says why.
pub async fn gather(scene: &Scene<'_>, over: impl Future<Output = String>) -> Vec<Piece> {
    let mut looks = nodes::looks(scene);
    if let Some(api) = scene.api {
        looks.extend(api::looks(api));
        looks.push(Look { path: "logs".into(), pieces: logs::all(api, &scene.pods).boxed() });
    }
    in_time(looks, over).await
}

/// What comes of looks at the same time, in the order of the looks.
async fn in_time(looks: Vec<Look<'_>>, over: impl Future<Output = String>) -> Vec<Piece> {
    let (paths, looks): (Vec<_>, Vec<_>) = looks.into_iter().map(|look| (look.path, look.pieces)).unzip();
    let mut waiting: FuturesUnordered<_> =
        looks.into_iter().enumerate().map(|(at, pieces)| pieces.map(move |pieces| (at, pieces))).collect();
    let mut had: Vec<Option<Vec<Piece>>> = vec![None; paths.len()];
    tokio::pin!(over);
    let why = loop {
        tokio::select! {
            // What is there is taken before it is asked whether the time is over.
            biased;
            next = waiting.next() => match next {
                Some((at, pieces)) => had[at] = Some(pieces),
                None => break String::new(),
            },
            why = &mut over => break why,
        }
    };
    let late = |path: String| vec![Piece::new(path, Err(why.clone()))];
    paths.into_iter().zip(had).flat_map(|(path, pieces)| pieces.unwrap_or_else(|| late(path))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_comes_too_late_says_so_and_delays_nothing() {
        let quick = Look::one("quick".into(), async { Ok("there".into()) });
        let never = Look::one("never".into(), futures::future::pending());
        let last = Look::one("last".into(), async { Err("not there".into()) });
        let over = async {
            tokio::task::yield_now().await;
            "not within 10 s".to_string()
        };
        let pieces = in_time(vec![never, quick, last], over).await;
        let expected = [
            Piece::new("never", Err("not within 10 s".into())),
            Piece::new("quick", Ok("there".into())),
            Piece::new("last", Err("not there".into())),
        ];
        assert_eq!(pieces, expected);
    }
}
