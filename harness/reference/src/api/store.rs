//! The one revisioned store: objects by kind, and a bounded history that every watch reads.
//! Knows nothing of what objects mean. Writers never wait for watchers: they ring a bell and go on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::kinds::{KINDS, KindIndex};

/// Events kept for each kind. A watch that falls further behind is ended and must list again.
const HISTORY_EVENTS: usize = 4096;
/// Bytes of serialised objects kept in the history of each kind.
const HISTORY_BYTES: usize = 32 << 20;
/// The revision before the first write, so that revision 1 is in the past, as it is on a real server.
const FIRST_REVISION: u64 = 2;

/// A stored object with its serialised form.
#[derive(Debug)]
pub struct Object {
    pub value: Value,
    /// The object as JSON, made once and shared by every list and watch.
    pub json: Bytes,
    /// Its `resourceVersion`.
    pub revision: u64,
}

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Added,
    Modified,
    Deleted,
}

/// One entry of the history.
#[derive(Debug, Clone)]
pub struct Event {
    pub revision: u64,
    pub change: Change,
    pub object: Arc<Object>,
    pub previous: Option<Arc<Object>>,
}

/// The history no longer reaches back far enough; it starts after `oldest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone {
    pub oldest: u64,
}

type Key = (String, String);

struct Shelf {
    objects: BTreeMap<Key, Arc<Object>>,
    history: VecDeque<Event>,
    history_bytes: usize,
    /// Revision of the newest event that has left the history.
    floor: u64,
}

struct State {
    revision: u64,
    shelves: Vec<Shelf>,
}

/// All objects of the cluster.
pub struct Store {
    state: RwLock<State>,
    bells: Vec<watch::Sender<u64>>,
}

impl Default for Store {
    fn default() -> Self {
        let shelves = KINDS
            .iter()
            .map(|_| Shelf {
                objects: BTreeMap::new(),
                history: VecDeque::new(),
                history_bytes: 0,
                floor: FIRST_REVISION,
            })
            .collect();
        Self {
            state: RwLock::new(State { revision: FIRST_REVISION, shelves }),
            bells: KINDS.iter().map(|_| watch::Sender::new(0)).collect(),
        }
    }
}

impl Store {
    fn read(&self) -> RwLockReadGuard<'_, State> {
        // Every write is complete before its guard can be dropped by a panic, so a poisoned lock holds good state.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The revision of the last write.
    pub fn revision(&self) -> u64 {
        self.read().revision
    }

    /// One object; `namespace` is empty for cluster-scoped kinds.
    pub fn get(&self, kind: KindIndex, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.read().shelves[kind].objects.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// The objects of a kind in order of namespace and name, and the revision they are the truth of.
    pub fn list(&self, kind: KindIndex, namespace: Option<&str>) -> (u64, Vec<Arc<Object>>) {
        let state = self.read();
        (state.revision, state.shelves[kind].within(namespace).map(|(_, object)| Arc::clone(object)).collect())
    }

    /// The objects of a kind as they were at `revision`.
    pub fn list_at(&self, kind: KindIndex, namespace: Option<&str>, revision: u64) -> Result<Vec<Arc<Object>>, Gone> {
        let state = self.read();
        let shelf = &state.shelves[kind];
        if revision < shelf.floor {
            return Err(Gone { oldest: shelf.floor });
        }
        let mut objects: BTreeMap<Key, Arc<Object>> =
            shelf.within(namespace).map(|(key, object)| (key.clone(), Arc::clone(object))).collect();
        for event in shelf.history.iter().rev().take_while(|event| event.revision > revision) {
            let key = key_of(&event.object.value);
            if namespace.is_some_and(|namespace| namespace != key.0) {
                continue;
            }
            match &event.previous {
                Some(previous) => objects.insert(key, Arc::clone(previous)),
                None => objects.remove(&key),
            };
        }
        Ok(objects.into_values().collect())
    }

    /// Up to `limit` events of a kind after `revision`, and the revision up to which they are complete.
    pub fn events_after(&self, kind: KindIndex, revision: u64, limit: usize) -> Result<(Vec<Event>, u64), Gone> {
        let state = self.read();
        let shelf = &state.shelves[kind];
        if revision < shelf.floor {
            return Err(Gone { oldest: shelf.floor });
        }
        let start = shelf.history.partition_point(|event| event.revision <= revision);
        let events: Vec<Event> = shelf.history.iter().skip(start).take(limit).cloned().collect();
        let complete =
            if events.len() == limit { events.last().map_or(revision, |last| last.revision) } else { state.revision };
        Ok((events, complete))
    }

    /// Rings whenever an object of the kind changes. Subscribe before reading, and nothing is missed.
    pub fn subscribe(&self, kind: KindIndex) -> watch::Receiver<u64> {
        self.bells[kind].subscribe()
    }

    /// Runs `work` with nobody else reading or writing. It must check everything before its first change.
    pub fn write<T>(&self, work: impl FnOnce(&mut Transaction<'_>) -> T) -> T {
        let (result, touched, revision) = {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            let mut transaction = Transaction { state: &mut state, touched: BTreeSet::new() };
            let result = work(&mut transaction);
            let touched = transaction.touched;
            (result, touched, state.revision)
        };
        for kind in touched {
            self.bells[kind].send_replace(revision);
        }
        result
    }
}

impl Shelf {
    fn within(&self, namespace: Option<&str>) -> impl Iterator<Item = (&Key, &Arc<Object>)> {
        let namespace = namespace.map(str::to_owned);
        let start = (namespace.clone().unwrap_or_default(), String::new());
        self.objects.range(start..).take_while(move |(key, _)| namespace.as_ref().is_none_or(|wanted| *wanted == key.0))
    }

    fn remember(&mut self, event: Event) {
        self.history_bytes += event.object.json.len();
        self.history.push_back(event);
        while self.history.len() > HISTORY_EVENTS || self.history_bytes > HISTORY_BYTES {
            let Some(oldest) = self.history.pop_front() else {
                break;
            };
            self.history_bytes -= oldest.object.json.len();
            self.floor = oldest.revision;
        }
    }
}

/// Exclusive access to the store.
pub struct Transaction<'a> {
    state: &'a mut State,
    touched: BTreeSet<KindIndex>,
}

impl Transaction<'_> {
    /// One object.
    pub fn get(&self, kind: KindIndex, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.state.shelves[kind].objects.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// The objects of a kind.
    pub fn list(&self, kind: KindIndex) -> impl Iterator<Item = &Arc<Object>> {
        self.state.shelves[kind].objects.values()
    }

    /// Stores an object under its own namespace and name, at the next revision.
    pub fn put(&mut self, kind: KindIndex, value: Value) -> Arc<Object> {
        let key = key_of(&value);
        let object = self.next(value);
        let previous = self.state.shelves[kind].objects.insert(key, Arc::clone(&object));
        let change = if previous.is_some() { Change::Modified } else { Change::Added };
        self.record(kind, change, &object, previous);
        object
    }

    /// Takes an object out. `last` is how it looked in the end; the event carries the next revision.
    pub fn remove(&mut self, kind: KindIndex, last: Value) -> Arc<Object> {
        let key = key_of(&last);
        let object = self.next(last);
        let previous = self.state.shelves[kind].objects.remove(&key);
        if previous.is_some() {
            self.record(kind, Change::Deleted, &object, previous);
        }
        object
    }

    fn next(&mut self, mut value: Value) -> Arc<Object> {
        self.state.revision += 1;
        let revision = self.state.revision;
        if let Some(meta) = value.get_mut("metadata") {
            meta["resourceVersion"] = json!(revision.to_string());
        }
        let json = Bytes::from(serde_json::to_vec(&value).unwrap_or_default());
        Arc::new(Object { value, json, revision })
    }

    fn record(&mut self, kind: KindIndex, change: Change, object: &Arc<Object>, previous: Option<Arc<Object>>) {
        self.touched.insert(kind);
        let event = Event { revision: object.revision, change, object: Arc::clone(object), previous };
        self.state.shelves[kind].remember(event);
    }
}

fn key_of(value: &Value) -> Key {
    let part = |name: &str| value["metadata"][name].as_str().unwrap_or_default().to_owned();
    (part("namespace"), part("name"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn config_map(name: &str, text: &str) -> Value {
        json!({"metadata": {"namespace": "a", "name": name}, "data": {"k": text}})
    }

    #[test]
    fn a_list_at_a_revision_is_what_was_there_then() {
        let store = Store::default();
        store.write(|tx| tx.put(0, config_map("one", "1")));
        let then = store.write(|tx| tx.put(0, config_map("two", "1")).revision);
        store.write(|tx| tx.put(0, config_map("one", "2")));
        store.write(|tx| tx.remove(0, config_map("two", "1")));
        store.write(|tx| tx.put(0, config_map("three", "1")));
        let seen: Vec<String> = store
            .list_at(0, Some("a"), then)
            .unwrap()
            .iter()
            .map(|object| format!("{}={}", object.value["metadata"]["name"], object.value["data"]["k"]))
            .collect();
        assert_eq!(seen, ["\"one\"=\"1\"", "\"two\"=\"1\""]);
    }

    #[test]
    fn history_is_bounded_and_says_where_it_starts() {
        let store = Store::default();
        for turn in 0..HISTORY_EVENTS + 10 {
            store.write(|tx| tx.put(0, config_map("one", &turn.to_string())));
        }
        let gone = store.events_after(0, FIRST_REVISION, 1).unwrap_err();
        assert_eq!(gone.oldest, FIRST_REVISION + 10);
        let (events, _) = store.events_after(0, gone.oldest, usize::MAX).unwrap();
        assert_eq!(events.len(), HISTORY_EVENTS);
    }

    #[test]
    fn a_namespace_lists_only_its_own() {
        let store = Store::default();
        for namespace in ["a", "aa", "b"] {
            store.write(|tx| tx.put(0, json!({"metadata": {"namespace": namespace, "name": "x"}})));
        }
        assert_eq!(store.list(0, Some("a")).1.len(), 1);
        assert_eq!(store.list(0, None).1.len(), 3);
    }
}
