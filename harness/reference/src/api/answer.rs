//! Answers: bodies, content types and what a client accepts.
//! Knows HTTP and the shapes of answers, nothing of how they come about.

use std::io;

use futures::Stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::Value;

use super::request::Query;
use super::status::Refusal;
use super::table::Include;

/// The body of every answer.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;
/// An answer.
pub type Answer = Response<Body>;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The form in which a client wants objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Plain,
    Table(Include),
    /// Metadata alone.
    Partial,
}

/// A body that is all there.
pub fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// An answer of a given code and content type.
pub fn bytes(code: u16, content_type: HeaderValue, bytes: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(whole(bytes));
    *answer.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer
}

/// JSON that is already serialised.
pub fn json_bytes(code: u16, json: impl Into<Bytes>) -> Answer {
    bytes(code, JSON, json)
}

/// A value as JSON.
pub fn json(code: u16, value: &Value) -> Answer {
    json_bytes(code, serde_json::to_vec(value).unwrap_or_default())
}

/// Plain text.
pub fn text(code: u16, text: impl Into<Bytes>) -> Answer {
    bytes(code, HeaderValue::from_static("text/plain; charset=utf-8"), text)
}

/// A `Status`.
pub fn refusal(refusal: &Refusal) -> Answer {
    json(refusal.code, &refusal.to_value())
}

/// JSON whose end is not known yet.
pub fn stream(chunks: impl Stream<Item = Bytes> + Send + 'static) -> Answer {
    use futures::StreamExt as _;
    let frames = chunks.map(|chunk| Ok::<_, io::Error>(Frame::data(chunk)));
    let mut answer = Response::new(StreamBody::new(frames).boxed_unsync());
    answer.headers_mut().insert(CONTENT_TYPE, JSON);
    answer
}

/// Adds the warnings a client should print, as `Warning` headers.
pub fn warn(answer: &mut Answer, warnings: &[String]) {
    for warning in warnings {
        let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            answer.headers_mut().append(HeaderName::from_static("warning"), value);
        }
    }
}

/// What the client accepts, the first that can be given.
pub fn form(headers: &HeaderMap, query: &Query) -> Result<Form, Refusal> {
    let accepts: Vec<&str> = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .collect();
    if accepts.is_empty() {
        return Ok(Form::Plain);
    }
    accepts.iter().find_map(|accept| one_form(accept, query)).ok_or_else(Refusal::not_acceptable)
}

fn one_form(accept: &str, query: &Query) -> Option<Form> {
    let mut parts = accept.split(';').map(str::trim);
    if !matches!(parts.next()?, "application/json" | "*/*" | "application/*" | "") {
        return None;
    }
    let mut wanted = None;
    for (key, value) in parts.filter_map(|part| part.split_once('=')) {
        match (key.trim(), value.trim()) {
            ("as", kind) => wanted = Some(kind),
            ("v", "v1") | ("g", "meta.k8s.io") => {}
            ("v" | "g", _) => return None,
            _ => {}
        }
    }
    match wanted {
        None => Some(Form::Plain),
        Some("Table") => Some(Form::Table(match query.get("includeObject") {
            Some("None") => Include::None,
            Some("Object") => Include::Object,
            _ => Include::Metadata,
        })),
        Some("PartialObjectMetadata" | "PartialObjectMetadataList") => Some(Form::Partial),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Some(Form::Table(Include::Metadata)))]
    #[case("application/json;as=Table;g=meta.k8s.io;v=v1beta1, application/json", Some(Form::Plain))]
    #[case("application/vnd.kubernetes.protobuf, application/json", Some(Form::Plain))]
    #[case("application/vnd.kubernetes.protobuf", None)]
    #[case("*/*", Some(Form::Plain))]
    #[case("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", Some(Form::Partial))]
    fn the_first_acceptable_form_is_taken(#[case] accept: &str, #[case] expected: Option<Form>) {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        assert_eq!(form(&headers, &Query::default()).ok(), expected);
    }
}
