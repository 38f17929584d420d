//! Gives each pod of the node its task and tells it what the API says. It decides nothing about a pod.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::runtime::reflector::Store;
use kube::runtime::watcher;
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};

use super::context::NodeContext;
use super::journal::journal;
use super::pod::{self, Desired, sandbox};
use super::publisher::PodKey;
use super::record::{self, RecordFile};
use crate::watched::{Bell, follow};

/// How long pods may take to let go of their containers when the kubelet ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// The pods that the API binds to this node, as they are known now.
pub fn follow_pods(node: &NodeContext) -> (Store<Pod>, Bell) {
    let bell = Bell::default();
    let own = watcher::Config::default().fields(&format!("spec.nodeName={}", node.config.node_name));
    (follow(Api::<Pod>::all(node.config.client.clone()), own, &bell), bell)
}

/// The tasks of the pods.
struct Dispatch {
    node: Arc<NodeContext>,
    lives: JoinSet<()>,
    /// By the uid of the pod.
    pods: HashMap<String, watch::Sender<Desired>>,
    uids: HashMap<Id, String>,
    /// Pods whose life is over, until the API stops to mention them.
    over: HashSet<String>,
    /// What a kubelet before this one left, by uid.
    records: HashMap<String, RecordFile>,
}

/// Until the kubelet ends.
pub async fn dispatch(node: Arc<NodeContext>, store: Store<Pod>, bell: Bell) {
    let shutdown = node.shutdown.clone();
    tokio::select! {
        // The first complete list: before it every record would look like an orphan's.
        ready = store.wait_until_ready() => if ready.is_err() { return },
        () = shutdown.cancelled() => return,
    }
    let records = record::load_all(&node.config.pod_root).unwrap_or_else(|error| {
        journal(format_args!("cannot read `{}`: {error}", node.config.pod_root.display()));
        Vec::new()
    });
    let records = records.into_iter().map(|record| (record.read().uid, record)).collect();
    let mut dispatch = Dispatch {
        node,
        lives: JoinSet::new(),
        pods: HashMap::new(),
        uids: HashMap::new(),
        over: HashSet::new(),
        records,
    };
    loop {
        dispatch.compare(&store.state());
        dispatch.clear_orphans();
        tokio::select! {
            () = bell.rung() => {}
            Some(ended) = dispatch.lives.join_next_with_id() => dispatch.life_ended(ended),
            () = shutdown.cancelled() => break,
        }
    }
    let farewell = async { while dispatch.lives.join_next().await.is_some() {} };
    if tokio::time::timeout(FAREWELL, farewell).await.is_err() {
        dispatch.lives.shutdown().await;
    }
}

impl Dispatch {
    fn compare(&mut self, known: &[Arc<Pod>]) {
        let mut mentioned = HashSet::new();
        for pod in known {
            let Some(key) = PodKey::of(pod) else { continue };
            mentioned.insert(key.uid.clone());
            if self.over.contains(&key.uid) {
                continue;
            }
            match self.pods.get(&key.uid) {
                Some(desired) => tell(desired, pod),
                None => self.begin(key, pod),
            }
        }
        self.over.retain(|uid| mentioned.contains(uid));
        for (uid, desired) in &self.pods {
            if !mentioned.contains(uid) {
                desired.send_if_modified(|desired| !std::mem::replace(&mut desired.gone, true));
            }
        }
    }

    fn begin(&mut self, key: PodKey, pod: &Arc<Pod>) {
        let (tell, desired) = watch::channel(Desired { pod: Arc::clone(pod), gone: false });
        let record = self.records.remove(&key.uid);
        let uid = key.uid.clone();
        let life = self.lives.spawn(pod::live(Arc::clone(&self.node), key, desired, record));
        self.uids.insert(life.id(), uid.clone());
        self.pods.insert(uid, tell);
    }

    /// Records of pods that the API does not know: nobody else will clear them away.
    fn clear_orphans(&mut self) {
        for (_, record) in self.records.drain() {
            let node = Arc::clone(&self.node);
            self.lives.spawn(async move { sandbox::clear(&node, &Arc::new(record)).await });
        }
    }

    fn life_ended(&mut self, ended: Result<(Id, ()), tokio::task::JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => {
                journal(format_args!("the task of a pod failed: {error}"));
                error.id()
            }
        };
        if let Some(uid) = self.uids.remove(&id) {
            self.pods.remove(&uid);
            self.over.insert(uid);
        }
    }
}

fn tell(desired: &watch::Sender<Desired>, pod: &Arc<Pod>) {
    desired.send_if_modified(|desired| {
        let differs = desired.pod.metadata.resource_version != pod.metadata.resource_version;
        if differs {
            desired.pod = Arc::clone(pod);
        }
        differs
    });
}
