//! From a request to its answer: who asks, what for, and which part of the server does it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use hyper::{Method, Request};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::answer::{self, Answer};
use super::auth::{self, User};
use super::cluster::Cluster;
use super::kinds::{ASKED, SAID, Sub};
use super::read::{self, Selection};
use super::request::{Query, Target, WriteOptions};
use super::status::Refusal;
use super::write::{self, DeleteOptions, Patch};
use super::{discovery, kubelet, openapi, watching};

/// The longest body that is read, in bytes.
const BODY_LIMIT: usize = 3 << 20;
/// How long a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(30);

/// Answers a request. Whatever goes wrong inside becomes a Status.
pub(super) async fn answer(cluster: Arc<Cluster>, request: Request<Incoming>, shutdown: CancellationToken) -> Answer {
    let caught = AssertUnwindSafe(respond(cluster, request, shutdown)).catch_unwind().await;
    match caught {
        Ok(Ok(answer)) => answer,
        Ok(Err(refusal)) => answer::refusal(&refusal),
        Err(_) => answer::refusal(&Refusal::internal("the request could not be handled")),
    }
}

async fn respond(
    cluster: Arc<Cluster>,
    request: Request<Incoming>,
    shutdown: CancellationToken,
) -> Result<Answer, Refusal> {
    let user = auth::who(request.headers(), &cluster.tokens)?;
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let path = request.uri().path().to_owned();
    auth::may(&user, request.method(), &path, &query)?;
    match Target::parse(&path) {
        Some(target) => resource(&cluster, &user, &target, &query, request, shutdown).await,
        None => about_server(&cluster, request.method(), &path, request.headers()).ok_or_else(Refusal::no_such_path)?,
    }
}

/// What the OpenAPI document of the second generation is as protobuf. Clients ask for it with an `@` before the
/// version, which the type of an answer must not have (RFC 2045, section 5.1).
const OPENAPI_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Paths that are about the server itself.
fn about_server(
    cluster: &Cluster,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
) -> Option<Result<Answer, Refusal>> {
    let path = path.trim_end_matches('/');
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let told = match parts.as_slice() {
        [] => {
            json!({ "paths": ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"] })
        }
        ["version"] => discovery::version(),
        ["healthz" | "livez", ..] => return Some(Ok(answer::text(200, "ok"))),
        ["readyz", ..] => {
            let ready = read::is_ready(cluster);
            return Some(Ok(answer::text(if ready { 200 } else { 500 }, if ready { "ok" } else { "not ready" })));
        }
        ["api"] | ["apis"] if accept.contains("as=APIGroupDiscoveryList") => {
            return Some(Ok(aggregated(parts[0] == "api", accept)));
        }
        ["api"] => discovery::core_versions(cluster.advertise),
        ["apis"] => discovery::group_list(),
        ["api", version] => discovery::resources("", version)?,
        ["apis", group] => discovery::group(group)?,
        ["apis", group, version] => discovery::resources(group, version)?,
        ["openapi", "v3"] => openapi::index(),
        ["openapi", "v3", rest @ ..] => openapi::v3(&rest.join("/"))?,
        ["openapi", "v2"] if accept.replace('@', ".").contains(OPENAPI_PROTOBUF) => {
            let document = openapi::v2_protobuf();
            return Some(Ok(answer::bytes(200, HeaderValue::from_static(OPENAPI_PROTOBUF), document)));
        }
        ["openapi", "v2"] => openapi::v2(),
        _ => return None,
    };
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Some(Err(Refusal::no_such_verb()));
    }
    Some(Ok(answer::json(200, &told)))
}

fn aggregated(core: bool, accept: &str) -> Answer {
    // The first form the client names that is known here; `v2` since Kubernetes 1.30.
    let stable = accept
        .split(',')
        .find(|form| form.contains("as=APIGroupDiscoveryList"))
        .is_none_or(|form| !form.contains("v=v2beta1"));
    let version = if stable { "v2" } else { "v2beta1" };
    let mut answer = answer::json(200, &discovery::aggregated(core, stable));
    let told = format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
    if let Ok(told) = HeaderValue::from_str(&told) {
        answer.headers_mut().insert(CONTENT_TYPE, told);
    }
    answer
}

async fn resource(
    cluster: &Arc<Cluster>,
    user: &User,
    target: &Target,
    query: &Query,
    request: Request<Incoming>,
    shutdown: CancellationToken,
) -> Result<Answer, Refusal> {
    let method = request.method().clone();
    match target.sub {
        Some(Sub::Exec | Sub::Attach | Sub::PortForward) if matches!(method, Method::GET | Method::POST) => {
            return kubelet::stream(cluster, target, query, request).await;
        }
        Some(Sub::Log) if method == Method::GET => {
            return kubelet::log(cluster, target, query).await;
        }
        _ => {}
    }
    let reads = matches!(method, Method::GET | Method::HEAD);
    if !reads && target.kind().verbs == SAID {
        return Err(Refusal::no_such_verb());
    }
    if reads {
        return reading(cluster, target, query, request.headers(), shutdown);
    }
    let agent = request.headers().get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let options = WriteOptions::parse(query, agent)?;
    let (parts, body) = request.into_parts();
    let body = whole_body(&parts.headers, body).await?;
    let asked = Asked { cluster, user, target, query, headers: &parts.headers, options, body };
    match method {
        Method::POST => asked.post(),
        Method::PUT => asked.put(),
        Method::PATCH => asked.patch(),
        Method::DELETE => asked.delete(),
        _ => Err(Refusal::no_such_verb()),
    }
}

fn reading(
    cluster: &Arc<Cluster>,
    target: &Target,
    query: &Query,
    headers: &HeaderMap,
    shutdown: CancellationToken,
) -> Result<Answer, Refusal> {
    let form = answer::form(headers, query)?;
    if target.kind().verbs == ASKED {
        return Err(Refusal::no_such_verb());
    }
    match (target.sub, target.name.is_some()) {
        (None, _) if query.is_true("watch") => {
            Ok(answer::stream(watching::watch(cluster, target, query, form, shutdown)?))
        }
        (None, false) => read::list(cluster, target, query, form),
        (None | Some(Sub::Status), true) => read::get(cluster, target, form),
        (Some(Sub::Scale), true) => {
            let name = target.named()?;
            let found = cluster.store.get(target.shelf(), target.place(), name);
            let found = found.ok_or_else(|| Refusal::not_found(target.kind(), name))?;
            Ok(answer::json(200, &write::scale(&found.value)))
        }
        _ => Err(Refusal::no_such_verb()),
    }
}

async fn whole_body(headers: &HeaderMap, body: Incoming) -> Result<Bytes, Refusal> {
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok())
        .and_then(|length| length.parse::<usize>().ok());
    if announced.is_some_and(|length| length > BODY_LIMIT) {
        return Err(Refusal::too_large(BODY_LIMIT));
    }
    let collected =
        timeout(BODY_TIME, Limited::new(body, BODY_LIMIT).collect()).await.map_err(|_| Refusal::too_slow())?;
    match collected {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Refusal::too_large(BODY_LIMIT)),
        Err(error) => Err(Refusal::bad_request(format!("the body of the request could not be read: {error}"))),
    }
}

/// A request that writes, with its body.
struct Asked<'a> {
    cluster: &'a Arc<Cluster>,
    user: &'a User,
    target: &'a Target,
    query: &'a Query,
    headers: &'a HeaderMap,
    options: WriteOptions,
    body: Bytes,
}

impl Asked<'_> {
    fn read(&self) -> Result<Value, Refusal> {
        let (expected, fields) = match self.target.sub {
            Some(Sub::Scale) => ("Scale", ""),
            Some(Sub::Binding) => ("Binding", ""),
            Some(Sub::Eviction) => ("Eviction", "Eviction"),
            // Custom resources have no protobuf, here or on a real server.
            _ if self.target.kind().is_custom() => (self.target.kind().kind, ""),
            _ => (self.target.kind().kind, self.target.kind().fields),
        };
        write::read_body(self.headers, &self.body, expected, fields)
    }

    /// The body of a question. In protobuf only its envelope is read, so a token cannot be asked about that way;
    /// the other answers do not depend on what is asked.
    fn read_question(&self) -> Result<Value, Refusal> {
        let kind = self.target.kind();
        let fields = if kind.kind == "TokenReview" { "" } else { kind.fields };
        write::read_body(self.headers, &self.body, kind.kind, fields)
    }

    fn post(&self) -> Result<Answer, Refusal> {
        if self.target.kind().verbs == ASKED {
            return Ok(answer::json(201, &self.review(self.read_question()?)));
        }
        match (self.target.sub, self.target.name.is_some()) {
            (None, false) => {
                let body = self.read()?;
                self.written(write::create(self.cluster, self.target, body, &self.options)?)
            }
            (Some(Sub::Binding), true) => {
                write::bind(self.cluster, self.target, &self.read()?, &self.options)?;
                Ok(answer::json(201, &success(None)))
            }
            (Some(Sub::Eviction), true) => {
                write::evict(self.cluster, self.target, &self.read()?)?;
                Ok(answer::json(201, &success(None)))
            }
            _ => Err(Refusal::no_such_verb()),
        }
    }

    fn put(&self) -> Result<Answer, Refusal> {
        match (self.target.sub, self.target.name.is_some()) {
            (None | Some(Sub::Status), true) => {
                let body = self.read()?;
                self.written(write::replace(self.cluster, self.target, body, &self.options)?)
            }
            (Some(Sub::Scale), true) => {
                let object = write::put_scale(self.cluster, self.target, &self.read()?, &self.options)?;
                Ok(answer::json(200, &write::scale(&object.value)))
            }
            (Some(Sub::Finalize), true) => {
                let object = write::finalize(self.cluster, self.target, &self.read()?, &self.options)?;
                Ok(answer::json_bytes(200, object.json.clone()))
            }
            _ => Err(Refusal::no_such_verb()),
        }
    }

    fn read_patch(&self) -> Result<Patch, Refusal> {
        let header = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let media = header.split(';').next().unwrap_or_default().trim();
        let json = || {
            serde_json::from_slice::<Value>(&self.body)
                .map_err(|error| Refusal::bad_request(format!("error decoding patch: {error}")))
        };
        match media {
            "application/json-patch+json" => json().map(Patch::Json),
            "application/merge-patch+json" => json().map(Patch::Merge),
            "application/strategic-merge-patch+json" => json().map(Patch::Strategic),
            "application/apply-patch+yaml" => write::read_yaml(&self.body, self.target.kind().kind).map(Patch::Apply),
            _ => Err(Refusal::patch_format()),
        }
    }

    fn patch(&self) -> Result<Answer, Refusal> {
        match (self.target.sub, self.target.name.is_some()) {
            (None | Some(Sub::Status), true) => {
                let patch = self.read_patch()?;
                self.written(write::patch(self.cluster, self.target, patch, &self.options)?)
            }
            (Some(Sub::Scale), true) => {
                let patch = self.read_patch()?;
                let object = write::patch_scale(self.cluster, self.target, &patch, &self.options)?;
                Ok(answer::json(200, &write::scale(&object.value)))
            }
            _ => Err(Refusal::no_such_verb()),
        }
    }

    fn delete(&self) -> Result<Answer, Refusal> {
        let kind = self.target.kind();
        if self.target.sub.is_some() || kind.verbs == ASKED {
            return Err(Refusal::no_such_verb());
        }
        let body = if self.body.is_empty() {
            Value::Null
        } else {
            write::read_body(self.headers, &self.body, "DeleteOptions", "DeleteOptions")?
        };
        let options = DeleteOptions::parse(self.query, &body)?;
        if self.target.name.is_none() {
            if !kind.verbs.contains(&"deletecollection") {
                return Err(Refusal::no_such_verb());
            }
            let chosen = Selection::parse(self.query, self.target)?;
            let gone = write::delete_collection(self.cluster, self.target, &chosen.labels, &chosen.fields, &options)?;
            let meta = json!({ "resourceVersion": self.cluster.store.revision().to_string() });
            return Ok(read::collection(kind, &gone, meta, answer::Form::Plain));
        }
        match write::delete(self.cluster, self.target, &options)? {
            write::Deleted::Gone(object) if !kind.is_core("pods") => {
                let meta = &object.value["metadata"];
                let mut details = json!({ "name": meta["name"], "kind": kind.plural, "uid": meta["uid"] });
                if !kind.group.is_empty() {
                    details["group"] = json!(kind.group);
                }
                Ok(answer::json(200, &success(Some(details))))
            }
            write::Deleted::Gone(object) | write::Deleted::Going(object) => {
                Ok(read::one(kind, &object, answer::Form::Plain, 200))
            }
        }
    }

    fn written(&self, written: write::Written) -> Result<Answer, Refusal> {
        let code = if written.created { 201 } else { 200 };
        let form = answer::form(self.headers, self.query)?;
        let mut answer = read::one(self.target.kind(), &written.object, form, code);
        answer::warn(&mut answer, &written.warnings);
        Ok(answer)
    }

    /// Answers a question: whether one may, who one is, whose a token is.
    fn review(&self, mut review: Value) -> Value {
        let kind = self.target.kind();
        let about = |user: &User| json!({ "username": user.name, "groups": user.groups });
        let status = match kind.kind {
            "SelfSubjectAccessReview" => {
                json!({ "allowed": true, "reason": "every known user may do everything" })
            }
            "SelfSubjectReview" => json!({ "userInfo": about(self.user) }),
            _ => {
                let token = review["spec"]["token"].as_str().unwrap_or_default();
                let mut headers = HeaderMap::new();
                if let Ok(value) = format!("Bearer {token}").parse() {
                    headers.insert(hyper::header::AUTHORIZATION, value);
                }
                match auth::who(&headers, &self.cluster.tokens) {
                    Ok(user) if user.known => {
                        json!({ "authenticated": true, "user": about(&user) })
                    }
                    _ => json!({ "authenticated": false }),
                }
            }
        };
        if !review.is_object() {
            review = json!({});
        }
        review["apiVersion"] = json!(kind.api_version());
        review["kind"] = json!(kind.kind);
        review["status"] = status;
        review
    }
}

fn success(details: Option<Value>) -> Value {
    let mut status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success" });
    match details {
        Some(details) => status["details"] = details,
        None => status["code"] = json!(201),
    }
    status
}
