//! What containers wrote, for `kubectl logs`.

use std::io;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;

use super::Shared;
use super::answer::{find, refusal};
use crate::node::kubelet::logs::capture::LogBook;
use crate::node::kubelet::logs::read::{LogQuery, Piece, read};
use crate::node::kubelet::registry::ContainerEntry;

/// Pieces of a log on their way to a client.
const QUEUE: usize = 16;

/// A query for a log, and of which attempt.
#[derive(Debug, Default, PartialEq, Eq)]
struct LogRequest {
    query: LogQuery,
    previous: bool,
}

impl LogRequest {
    fn parse(query: &str, now: Timestamp) -> Result<Self, String> {
        let mut request = Self::default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let is_set = || matches!(&*value, "1" | "true" | "True");
            let number = || value.parse::<u32>().map_err(|_| format!("`{key}` must be a number, not `{value}`"));
            match &*key {
                "follow" => request.query.follow = is_set(),
                "previous" => request.previous = is_set(),
                "timestamps" => request.query.timestamps = is_set(),
                "tailLines" => request.query.tail = Some(number()? as usize),
                "limitBytes" => request.query.limit = Some(number()? as usize),
                "sinceSeconds" => {
                    let ago = SignedDuration::from_secs(number()?.into());
                    request.query.since = Some(now.saturating_sub(ago).unwrap_or(Timestamp::UNIX_EPOCH));
                }
                "sinceTime" => {
                    let time = value.parse().map_err(|_| format!("`sinceTime` must be a time, not `{value}`"))?;
                    request.query.since = Some(time);
                }
                _ => {}
            }
        }
        Ok(request)
    }
}

pub(super) async fn container_logs(
    State(shared): State<Shared>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
) -> Response {
    let bad = |text: &str| refusal(StatusCode::BAD_REQUEST, "BadRequest", text);
    let request = match LogRequest::parse(query.as_deref().unwrap_or_default(), Timestamp::now()) {
        Ok(request) => request,
        Err(problem) => return bad(&problem),
    };
    let entry = match find(&shared.node.registry, &namespace, &pod, &container) {
        Ok(entry) => entry,
        Err(refused) => return *refused,
    };
    let book = if request.previous { entry.previous_log() } else { entry.log() };
    match book {
        Some(book) => stream(book, request.query),
        None if request.previous => {
            bad(&format!("previous terminated container \"{container}\" in pod \"{pod}\" not found"))
        }
        None => bad(&format!("container \"{container}\" in pod \"{pod}\" is waiting to start: {}", waits_for(&entry))),
    }
}

fn waits_for(entry: &ContainerEntry) -> String {
    match entry.waiting().as_str() {
        "ErrImagePull" | "ImagePullBackOff" => "trying and failing to pull image".into(),
        reason => reason.into(),
    }
}

fn stream(book: Arc<LogBook>, query: LogQuery) -> Response {
    let (sender, pieces) = mpsc::channel(QUEUE);
    tokio::spawn(read(book, query, sender));
    let bytes = futures::stream::unfold(pieces, |mut pieces| async {
        let piece: io::Result<Piece> = pieces.recv().await?;
        Some((piece.map(|piece| Bytes::from(piece.bytes)), pieces))
    });
    ([(header::CONTENT_TYPE, "text/plain")], Body::from_stream(bytes)).into_response()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn now() -> Timestamp {
        "2027-01-15T08:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_query_is_read() {
        let request =
            LogRequest::parse("follow=true&tailLines=5&timestamps=1&previous=false&limitBytes=9", now()).unwrap();
        let query = LogQuery { follow: true, tail: Some(5), timestamps: true, limit: Some(9), since: None };
        assert_eq!(request, LogRequest { query, previous: false });
        let since = |query: &str| LogRequest::parse(query, now()).unwrap().query.since.unwrap().to_string();
        assert_eq!(since("sinceSeconds=60"), "2027-01-15T07:59:00Z");
        assert_eq!(since("sinceTime=2027-01-15T07%3A00%3A00Z"), "2027-01-15T07:00:00Z");
    }

    #[test]
    fn a_wrong_number_is_named() {
        assert_eq!(LogRequest::parse("tailLines=-1", now()).unwrap_err(), "`tailLines` must be a number, not `-1`");
        assert!(LogRequest::parse("sinceTime=yesterday", now()).is_err());
    }
}
