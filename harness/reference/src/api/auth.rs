//! Who asks, and whether they may: a fixed set of tokens, each of which may do anything, and strangers.

use hyper::Method;
use hyper::header::{AUTHORIZATION, HeaderMap};
use serde_json::{Map, json};

use super::request::{Query, Target};
use super::status::Refusal;

/// A bearer token and whose it is.
#[derive(Debug, Clone)]
pub struct TokenUser {
    pub token: String,
    pub user: String,
    pub groups: Vec<String>,
}

/// Somebody who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub groups: Vec<String>,
    pub known: bool,
}

/// Tells who sends a request; a token nobody has is refused, none at all is a stranger.
pub fn who(headers: &HeaderMap, tokens: &[TokenUser]) -> Result<User, Refusal> {
    let Some(header) = headers.get(AUTHORIZATION) else {
        let groups = vec!["system:unauthenticated".to_owned()];
        return Ok(User { name: "system:anonymous".to_owned(), groups, known: false });
    };
    let header = header.to_str().unwrap_or_default();
    let token = header
        .split_once(' ')
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    let known = token.and_then(|token| tokens.iter().find(|known| same(known.token.as_bytes(), token.as_bytes())));
    let known = known.ok_or_else(Refusal::unauthorized)?;
    let mut groups = known.groups.clone();
    groups.push("system:authenticated".to_owned());
    Ok(User { name: known.user.clone(), groups, known: true })
}

/// Compares without telling by its duration where the difference is.
fn same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |sum, (left, right)| sum | (left ^ right)) == 0
}

/// Paths that strangers may read.
const PUBLIC: &[&str] = &["/version", "/healthz", "/livez", "/readyz"];

/// Refuses a stranger everything but the version and the state of health.
pub fn may(user: &User, method: &Method, path: &str, query: &Query) -> Result<(), Refusal> {
    let path = path.trim_end_matches('/');
    let public =
        PUBLIC.iter().any(|open| path == *open || path.strip_prefix(open).is_some_and(|rest| rest.starts_with('/')));
    if user.known || public {
        return Ok(());
    }
    let Some(target) = Target::parse(path) else {
        let shown = if path.is_empty() { "/" } else { path };
        let message =
            format!("forbidden: User {:?} cannot {} path {shown:?}", user.name, method.as_str().to_lowercase());
        return Err(Refusal::forbidden(message, Some(json!({}))));
    };
    let kind = target.kind();
    let name = target.name.as_deref().unwrap_or_default();
    let quoted = if name.is_empty() { String::new() } else { format!(" {name:?}") };
    let place = match &target.namespace {
        Some(namespace) => format!("in the namespace {namespace:?}"),
        None => "at the cluster scope".to_owned(),
    };
    let message = format!(
        "{}{quoted} is forbidden: User {:?} cannot {} resource {:?} in API group {:?} {place}",
        kind.resource(),
        user.name,
        verb(method, &target, query),
        kind.plural,
        kind.group,
    );
    let mut details = Map::new();
    for (key, value) in [("name", name), ("group", kind.group), ("kind", kind.plural)] {
        if !value.is_empty() {
            details.insert(key.to_owned(), json!(value));
        }
    }
    Err(Refusal::forbidden(message, Some(details.into())))
}

fn verb(method: &Method, target: &Target, query: &Query) -> &'static str {
    let one = target.name.is_some();
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if one => "delete",
        Method::DELETE => "deletecollection",
        _ if query.is_true("watch") => "watch",
        _ if one => "get",
        _ => "list",
    }
}
