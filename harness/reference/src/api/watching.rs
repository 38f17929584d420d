//! Watches: the history from a revision on, then every change as it comes, in the form the client wants.
//! A watch that falls behind the bounded history is ended; it never holds up a writer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, stream};
use hyper::body::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::answer::Form;
use super::cluster::Cluster;
use super::events;
use super::kinds::Kind;
use super::random;
use super::read::Selection;
use super::request::{Query, Target};
use super::status::Refusal;
use super::store::{Change, Event, Object};
use super::table;

/// Without a wish of the client a watch ends after half an hour to an hour, as on a real server.
const SHORTEST: Duration = Duration::from_secs(1800);
/// How often a client that wants bookmarks gets one.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// Events taken from the history at a time.
const BATCH: usize = 256;

/// What a watch begins with.
enum Start {
    /// The changes after a revision.
    After(u64),
    /// Everything there is, then the changes.
    State { mark_end: bool },
}

struct Watch {
    cluster: Arc<Cluster>,
    target: Target,
    selection: Selection,
    form: Form,
    bookmarks: bool,
    position: u64,
    bell: watch::Receiver<u64>,
    ready: VecDeque<Bytes>,
    deadline: Instant,
    next_bookmark: Instant,
    shutdown: CancellationToken,
    over: bool,
}

/// Begins a watch; what comes out is a stream of lines.
pub fn watch(
    cluster: &Arc<Cluster>,
    target: &Target,
    query: &Query,
    form: Form,
    shutdown: CancellationToken,
) -> Result<impl Stream<Item = Bytes> + Send + use<>, Refusal> {
    let selection = Selection::parse(query, target)?;
    let bookmarks = query.is_true("allowWatchBookmarks");
    let start = start(query, cluster.store.revision(), bookmarks)?;
    let seconds = query.number("timeoutSeconds")?.filter(|seconds| *seconds > 0);
    let lasting =
        seconds.map_or_else(|| SHORTEST + Duration::from_secs(random::below(1800).into()), Duration::from_secs);
    let now = Instant::now();
    // The bell is taken before anything is read, so that no change falls between.
    let bell = cluster.store.subscribe(target.shelf());
    let mut watch = Watch {
        cluster: Arc::clone(cluster),
        target: target.clone(),
        selection,
        form,
        bookmarks,
        position: 0,
        bell,
        ready: VecDeque::new(),
        deadline: now + lasting.min(Duration::from_secs(86_400)),
        next_bookmark: now + BOOKMARK_EVERY,
        shutdown,
        over: false,
    };
    watch.begin(&start);
    Ok(stream::unfold(watch, |mut watch| async move { watch.next().await.map(|chunk| (chunk, watch)) }))
}

fn start(query: &Query, current: u64, bookmarks: bool) -> Result<Start, Refusal> {
    let revision = query.number("resourceVersion")?;
    if let Some(revision) = revision.filter(|revision| *revision > current) {
        return Err(Refusal::too_new(revision, current));
    }
    let rule = query.get("resourceVersionMatch");
    match query.get("sendInitialEvents") {
        None if rule.is_some() => {
            let why = "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            Err(Refusal::bad_request(why))
        }
        Some(_) if rule != Some("NotOlderThan") => {
            let why = "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            Err(Refusal::bad_request(why))
        }
        Some("true" | "1") => Ok(Start::State { mark_end: bookmarks }),
        Some(_) => Ok(Start::After(revision.filter(|revision| *revision > 0).unwrap_or(current))),
        None => match revision {
            Some(revision) if revision > 0 => Ok(Start::After(revision)),
            _ => Ok(Start::State { mark_end: false }),
        },
    }
}

impl Watch {
    fn kind(&self) -> &'static Kind {
        self.target.kind()
    }

    fn begin(&mut self, start: &Start) {
        match start {
            Start::After(revision) => self.position = *revision,
            Start::State { mark_end } => {
                let (revision, objects) =
                    self.cluster.store.list(self.target.shelf(), self.target.namespace.as_deref());
                self.position = revision;
                let matching: Vec<Arc<Object>> =
                    objects.into_iter().filter(|object| self.selection.matches(&object.value)).collect();
                for object in matching {
                    self.send("ADDED", &object);
                }
                if *mark_end {
                    let line = self.bookmark(true);
                    self.ready.push_back(line);
                }
            }
        }
    }

    /// The next piece of the stream; none when the watch is over.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(chunk) = self.take_ready() {
                return Some(chunk);
            }
            if self.over {
                return None;
            }
            self.bell.borrow_and_update();
            self.catch_up();
            if self.ready.is_empty() && !self.over {
                self.wait().await;
            }
        }
    }

    /// Everything that is ready, as one piece.
    fn take_ready(&mut self) -> Option<Bytes> {
        if self.ready.len() <= 1 {
            return self.ready.pop_front();
        }
        let all: Vec<u8> = self.ready.drain(..).flatten().collect();
        Some(Bytes::from(all))
    }

    async fn wait(&mut self) {
        tokio::select! {
            rung = self.bell.changed() => self.over |= rung.is_err(),
            () = self.shutdown.cancelled() => self.over = true,
            () = tokio::time::sleep_until(self.deadline) => self.over = true,
            () = tokio::time::sleep_until(self.next_bookmark), if self.bookmarks => {
                self.next_bookmark = Instant::now() + BOOKMARK_EVERY;
                let line = self.bookmark(false);
                self.ready.push_back(line);
            }
        }
    }

    fn catch_up(&mut self) {
        match self.cluster.store.events_after(self.target.shelf(), self.position, BATCH) {
            Ok((changes, complete)) => {
                let more = changes.len() == BATCH;
                for change in &changes {
                    self.consider(change);
                }
                self.position = complete;
                if more && self.ready.is_empty() {
                    self.catch_up();
                }
            }
            Err(gone) => {
                let status = Refusal::expired(self.position, gone.oldest).to_value();
                self.ready.push_back(line("ERROR", &text(&status)));
                self.over = true;
            }
        }
    }

    /// Sends an event as this watch sees it: an object that comes to match is added, one that ceases to is deleted.
    fn consider(&mut self, event: &Event) {
        let place = &event.object.value["metadata"]["namespace"];
        if self.target.namespace.as_ref().is_some_and(|namespace| *place != **namespace) {
            return;
        }
        let before = event.previous.as_ref().is_some_and(|previous| self.selection.matches(&previous.value));
        let after = event.change != Change::Deleted && self.selection.matches(&event.object.value);
        match (before, after) {
            (false, false) => {}
            (false, true) => self.send("ADDED", &event.object),
            (true, true) => self.send("MODIFIED", &event.object),
            (true, false) => self.send("DELETED", &event.object),
        }
    }

    fn send(&mut self, kind: &str, object: &Arc<Object>) {
        let body = match self.form {
            Form::Plain if !events::has_two_faces(self.kind()) => object.json.clone(),
            Form::Plain => text(&events::shown(&object.value)),
            Form::Partial => text(&table::partial(&object.value)),
            Form::Table(include) => {
                let meta = json!({ "resourceVersion": object.value["metadata"]["resourceVersion"] });
                let rows = std::iter::once(&object.value);
                text(&table::table(self.kind().columns, rows, meta, include, Timestamp::now()))
            }
        };
        self.ready.push_back(line(kind, &body));
    }

    fn bookmark(&self, initial_end: bool) -> Bytes {
        let kind = self.kind();
        let mut meta = json!({ "resourceVersion": self.position.to_string(), "creationTimestamp": null });
        if initial_end {
            meta["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let object = match self.form {
            Form::Plain => {
                json!({ "kind": kind.kind, "apiVersion": kind.api_version(), "metadata": meta })
            }
            Form::Partial => {
                json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": meta })
            }
            Form::Table(include) => {
                let mark = json!({ "metadata": meta });
                let meta = json!({ "resourceVersion": self.position.to_string() });
                table::table(kind.columns, std::iter::once(&mark), meta, include, Timestamp::now())
            }
        };
        line("BOOKMARK", &text(&object))
    }
}

fn text(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}

fn line(kind: &str, object: &Bytes) -> Bytes {
    let mut line = Vec::with_capacity(object.len() + 40);
    line.extend_from_slice(b"{\"type\":\"");
    line.extend_from_slice(kind.as_bytes());
    line.extend_from_slice(b"\",\"object\":");
    line.extend_from_slice(object);
    line.extend_from_slice(b"}\n");
    Bytes::from(line)
}
