//! Events about pods and the node: the sentences that `kubectl describe` shows. Written in the background; a full
//! queue loses events, never time.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Client;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::mpsc;

use super::journal::journal;

/// Events that wait to be written.
const QUEUE: usize = 512;
/// Different events that are remembered, to be counted instead of written again.
const REMEMBERED: usize = 1024;
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    Normal,
    Warning,
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subject {
    pub kind: &'static str,
    /// Empty for a node.
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// The container, as `spec.containers{name}`.
    pub field: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Saying {
    subject: Subject,
    severity: Severity,
    reason: &'static str,
    message: String,
}

/// Where events are dropped off.
#[derive(Clone, Debug)]
pub struct Recorder {
    queue: mpsc::Sender<Saying>,
}

impl Recorder {
    /// Starts to write events with `client` in the name of the kubelet of `node`.
    pub fn start(client: Client, node: &str) -> Self {
        let (queue, sayings) = mpsc::channel(QUEUE);
        let writer = Writer { client, node: node.into(), known: HashMap::new() };
        tokio::spawn(writer.write(sayings));
        Self { queue }
    }

    pub fn say(&self, subject: Subject, severity: Severity, reason: &'static str, message: impl Into<String>) {
        let saying = Saying { subject, severity, reason, message: message.into() };
        if let Err(mpsc::error::TrySendError::Full(lost)) = self.queue.try_send(saying) {
            journal(format_args!("event lost: {} {}: {}", lost.subject.name, lost.reason, lost.message));
        }
    }
}

struct Writer {
    client: Client,
    node: String,
    known: HashMap<Saying, Written>,
}

struct Written {
    name: String,
    count: i32,
}

impl Writer {
    async fn write(mut self, mut sayings: mpsc::Receiver<Saying>) {
        while let Some(saying) = sayings.recv().await {
            match tokio::time::timeout(PATIENCE, self.write_one(&saying)).await {
                Ok(Ok(())) => {}
                // The pod's namespace is going away; nobody will ask.
                Ok(Err(kube::Error::Api(status))) if status.code == 403 || status.code == 404 => {}
                Ok(Err(error)) => journal(format_args!("cannot write event `{}`: {error}", saying.reason)),
                Err(_) => journal(format_args!("cannot write event `{}`: no answer in 5 s", saying.reason)),
            }
        }
    }

    async fn write_one(&mut self, saying: &Saying) -> Result<(), kube::Error> {
        let now = Timestamp::now();
        let events: Api<Event> = Api::namespaced(self.client.clone(), saying.subject.home());
        if let Some(written) = self.known.get_mut(saying) {
            let patch = json!({"count": written.count + 1, "lastTimestamp": Time(now)});
            match events.patch(&written.name, &PatchParams::default(), &Patch::Merge(patch)).await {
                // Expired or deleted: it is written anew.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                outcome => {
                    written.count += 1;
                    return outcome.map(drop);
                }
            }
        }
        let name = format!("{}.{:x}", saying.subject.name, now.as_nanosecond());
        events.create(&PostParams::default(), &saying.event(&name, &self.node, now)).await?;
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert(saying.clone(), Written { name, count: 1 });
        Ok(())
    }
}

impl Subject {
    /// The namespace its events are kept in.
    fn home(&self) -> &str {
        if self.namespace.is_empty() { "default" } else { &self.namespace }
    }
}

impl Saying {
    fn event(&self, name: &str, node: &str, now: Timestamp) -> Event {
        let subject = &self.subject;
        Event {
            metadata: ObjectMeta {
                name: Some(name.into()),
                namespace: Some(subject.home().into()),
                ..Default::default()
            },
            involved_object: ObjectReference {
                api_version: Some("v1".into()),
                kind: Some(subject.kind.into()),
                namespace: Some(subject.namespace.clone()).filter(|namespace| !namespace.is_empty()),
                name: Some(subject.name.clone()),
                uid: Some(subject.uid.clone()),
                field_path: subject.field.clone(),
                ..Default::default()
            },
            type_: Some(if self.severity == Severity::Normal { "Normal" } else { "Warning" }.into()),
            reason: Some(self.reason.into()),
            message: Some(self.message.clone()),
            count: Some(1),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            source: Some(EventSource { component: Some("kubelet".into()), host: Some(node.into()) }),
            reporting_component: Some("kubelet".into()),
            reporting_instance: Some(node.into()),
            ..Default::default()
        }
    }
}
