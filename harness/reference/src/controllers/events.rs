//! Events: what `kubectl describe` shows of what the controllers did.
//!
//! Recording never waits and never fails a controller: one task writes, a full queue drops, repetitions become a
//! count, and an object that has much to say is cut short.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::log;
use super::write::within;

const QUEUE: usize = 512;
/// Distinct events remembered for counting; the memory starts anew when it is full.
const REMEMBERED: usize = 2048;
/// An object may say this much at once, and one more thing every [`REFILL`].
const BURST: u32 = 50;
const REFILL: Duration = Duration::from_secs(1);
/// The count of a repeated event is written no more often than this.
const REWRITE: Duration = Duration::from_secs(1);

/// Something that happened to an object.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Note {
    about: ObjectReference,
    warning: bool,
    reason: &'static str,
    message: String,
}

impl Note {
    pub(super) fn normal<K>(object: &K, reason: &'static str, message: String) -> Self
    where
        K: Resource<DynamicType = ()>,
    {
        Self { about: object.object_ref(&()), warning: false, reason, message }
    }

    pub(super) fn warning<K>(object: &K, reason: &'static str, message: String) -> Self
    where
        K: Resource<DynamicType = ()>,
    {
        Self { warning: true, ..Self::normal(object, reason, message) }
    }
}

/// Where controllers leave their notes.
#[derive(Clone)]
pub(super) struct Recorder {
    queue: mpsc::Sender<(&'static str, Note)>,
}

impl Recorder {
    /// Starts the task that writes, which ends with `shutdown`.
    pub(super) fn start(client: Client, shutdown: CancellationToken) -> Self {
        let (queue, notes) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = write_all(client, notes) => {}
            }
        });
        Self { queue }
    }

    /// Records `note` as said by `component`, unless there is too much to record already.
    pub(super) fn record(&self, component: &'static str, note: Note) {
        let _ = self.queue.try_send((component, note));
    }
}

async fn write_all(client: Client, mut notes: mpsc::Receiver<(&'static str, Note)>) {
    let mut memory = Memory::default();
    while let Some((component, note)) = notes.recv().await {
        let outcome = match memory.consider(&note, Instant::now()) {
            Verdict::Drop => continue,
            Verdict::Again { name, count } => recount(&client, &note, &name, count).await,
            Verdict::New { name } => create(&client, component, &note, name).await,
        };
        if let Err(cause) = outcome
            && !(cause.is_gone() || cause.is_terminating())
        {
            let about = note.about.name.as_deref().unwrap_or_default();
            log::warn("events", format_args!("event {} of `{about}` is lost: {}", note.reason, cause.message()));
        }
    }
}

async fn create(client: &Client, component: &str, note: &Note, name: String) -> Result<(), super::write::WriteError> {
    let now = Time(Timestamp::now());
    let event = Event {
        metadata: ObjectMeta { name: Some(name), namespace: Some(namespace(note).to_owned()), ..Default::default() },
        involved_object: note.about.clone(),
        reason: Some(note.reason.to_owned()),
        message: Some(note.message.clone()),
        type_: Some(if note.warning { "Warning" } else { "Normal" }.to_owned()),
        count: Some(1),
        first_timestamp: Some(now.clone()),
        last_timestamp: Some(now),
        source: Some(EventSource { component: Some(component.to_owned()), host: None }),
        reporting_component: Some(component.to_owned()),
        reporting_instance: Some(String::new()),
        ..Default::default()
    };
    let api: Api<Event> = Api::namespaced(client.clone(), namespace(note));
    within(api.create(&PostParams::default(), &event)).await.map(drop)
}

async fn recount(client: &Client, note: &Note, name: &str, count: i32) -> Result<(), super::write::WriteError> {
    let api: Api<Event> = Api::namespaced(client.clone(), namespace(note));
    let patch = json!({"count": count, "lastTimestamp": Time(Timestamp::now())});
    within(api.patch(name, &PatchParams::default(), &Patch::Merge(patch))).await.map(drop)
}

/// Events of objects that live in no namespace are kept in `default`.
fn namespace(note: &Note) -> &str {
    note.about.namespace.as_deref().unwrap_or("default")
}

#[derive(Debug, PartialEq)]
enum Verdict {
    New { name: String },
    Again { name: String, count: i32 },
    Drop,
}

#[derive(Default)]
struct Memory {
    told: HashMap<(String, &'static str, String), Told>,
    budgets: HashMap<String, (u32, Instant)>,
    made: u64,
}

struct Told {
    name: String,
    count: i32,
    written: Instant,
}

impl Memory {
    fn consider(&mut self, note: &Note, now: Instant) -> Verdict {
        if self.told.len() >= REMEMBERED || self.budgets.len() >= REMEMBERED {
            self.told.clear();
            self.budgets.clear();
        }
        let uid = note.about.uid.clone().unwrap_or_default();
        let key = (uid.clone(), note.reason, note.message.clone());
        if let Some(told) = self.told.get_mut(&key) {
            told.count += 1;
            if now < told.written + REWRITE {
                return Verdict::Drop;
            }
            told.written = now;
            return Verdict::Again { name: told.name.clone(), count: told.count };
        }
        if !self.affords(uid, now) {
            return Verdict::Drop;
        }
        self.made += 1;
        // Unique among those of this process by the count, and across its restarts by the clock.
        let stamp = Timestamp::now().as_microsecond().unsigned_abs();
        let about = note.about.name.as_deref().unwrap_or_default();
        let name = format!("{about}.{stamp:x}{:03x}", self.made & 0xfff);
        let told = Told { name: name.clone(), count: 1, written: now };
        self.told.insert(key, told);
        Verdict::New { name }
    }

    fn affords(&mut self, uid: String, now: Instant) -> bool {
        let (left, since) = self.budgets.entry(uid).or_insert((BURST, now));
        let refills = (now.duration_since(*since).as_secs() / REFILL.as_secs()).min(u64::from(BURST));
        if refills > 0 {
            *left = (*left + refills as u32).min(BURST);
            *since = now;
        }
        let affords = *left > 0;
        *left = left.saturating_sub(1);
        affords
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use k8s_openapi::api::core::v1::Pod;

    fn note(message: &str) -> Note {
        let mut pod = Pod::default();
        pod.metadata.name = Some("web".to_owned());
        pod.metadata.uid = Some("1".to_owned());
        Note::normal(&pod, "Scheduled", message.to_owned())
    }

    #[test]
    fn repetitions_are_counted_not_repeated() {
        let (mut memory, start) = (Memory::default(), Instant::now());
        let Verdict::New { name } = memory.consider(&note("a"), start) else {
            panic!("the first one is new");
        };
        assert!(name.starts_with("web."));
        assert_eq!(memory.consider(&note("a"), start), Verdict::Drop);
        let again = memory.consider(&note("a"), start + REWRITE);
        assert_eq!(again, Verdict::Again { name, count: 3 });
    }

    #[test]
    fn one_object_cannot_flood() {
        let (mut memory, start) = (Memory::default(), Instant::now());
        let new = |memory: &mut Memory, index: u32, now| {
            matches!(memory.consider(&note(&index.to_string()), now), Verdict::New { .. })
        };
        let told = (0..BURST * 2).filter(|&index| new(&mut memory, index, start)).count();
        assert_eq!(told, BURST as usize);
        assert!(new(&mut memory, 1000, start + REFILL), "one more after a while");
        assert!(!new(&mut memory, 1001, start + REFILL));
    }
}
