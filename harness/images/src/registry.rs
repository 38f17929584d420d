//! Image registries: one that has every image, and the way in which a container runtime pulls from one. Over plain HTTP,
//! with the requests of the OCI distribution specification.
//!
//! There is nothing in the images but their name: what a container of them does is known to whoever pulls.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::http::client::{self, Ask, Response};
use crate::http::url::{self, Url};
use crate::http::{Reply, Request, server};
use crate::options::{self, Known, long_value};
use crate::proxy::{self, Dialect};
use crate::{names, say, streams};

const OPTIONS: &[Known] = &[long_value("port")];
const USUAL_PORT: u16 = 5000;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// An archive of tar without any file: two blocks of zeros.
const EMPTY_ARCHIVE: [u8; 1024] = [0; 1024];

/// `registry [serve FILE] [--port PORT]`; without the option at the port in `REGISTRY_HTTP_ADDR`, as in that image.
pub fn run(arguments: &[String]) -> u8 {
    let fail = |error: String| {
        say::error(format_args!("registry: {error}"));
        1
    };
    let from_environment = std::env::var("REGISTRY_HTTP_ADDR").ok();
    let usual = from_environment.and_then(|place| place.rsplit_once(':')?.1.parse().ok()).unwrap_or(USUAL_PORT);
    let port = options::read(arguments, OPTIONS).and_then(|given| given.number("port", usual));
    match port.and_then(|port| streams::listen(port).map_err(|error| error.to_string())) {
        Ok(listener) => fail(server::serve(&listener, answer).to_string()),
        Err(error) => fail(error),
    }
}

fn answer(request: &Request) -> Reply {
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        return Reply::error(405, "a registry that nothing can be pushed to");
    }
    if request.path == "/v2/" {
        return Reply::of(200, "application/json", "{}");
    }
    let found = request.path.strip_prefix("/v2/").and_then(|rest| {
        let (name, what) = rest.rsplit_once('/')?;
        let (name, kind) = name.rsplit_once('/')?;
        if !is_repository(name) {
            return None;
        }
        match kind {
            "manifests" => Some((MANIFEST, manifest(name))).filter(|(_, body)| is_meant(what, body)),
            "blobs" => [(CONFIG, config(name)), (LAYER, EMPTY_ARCHIVE.to_vec())]
                .into_iter()
                .find(|(_, body)| digest(body) == what),
            _ => None,
        }
    });
    match found {
        Some((kind, body)) => {
            let digest = digest(&body);
            Reply::of(200, kind, body).with("Docker-Content-Digest", digest)
        }
        None => Reply::error(404, "no such thing here"),
    }
}

/// A tag means whatever there is; a digest means itself.
fn is_meant(reference: &str, body: &[u8]) -> bool {
    !reference.contains(':') || reference == digest(body)
}

/// As the distribution specification writes the names of repositories.
fn is_repository(name: &str) -> bool {
    let good = |part: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let (first, last) = (part.bytes().next(), part.bytes().next_back());
        first.is_some_and(inner)
            && last.is_some_and(inner)
            && part.bytes().all(|b| inner(b) || matches!(b, b'.' | b'_' | b'-'))
    };
    name.split('/').all(good)
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn config(name: &str) -> Vec<u8> {
    let layers = [digest(&EMPTY_ARCHIVE)];
    let labels = json!({"org.opencontainers.image.title": name});
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Labels": labels},
        "rootfs": {"type": "layers", "diff_ids": layers},
    });
    config.to_string().into_bytes()
}

fn manifest(name: &str) -> Vec<u8> {
    let part = |kind: &str, body: &[u8]| json!({"mediaType": kind, "digest": digest(body), "size": body.len()});
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": part(CONFIG, &config(name)),
        "layers": [part(LAYER, &EMPTY_ARCHIVE)],
    });
    manifest.to_string().into_bytes()
}

/// An image in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// As it was written.
    image: String,
    /// Host and port.
    registry: String,
    repository: String,
    /// A tag or a digest.
    version: String,
}

impl Reference {
    /// An image `ADDRESS:PORT/REPOSITORY[:TAG][@DIGEST]`; `None` when its registry is not given by address and port.
    pub fn at_an_address(image: &str) -> Option<Self> {
        let (registry, rest) = image.split_once('/')?;
        registry.parse::<SocketAddr>().ok()?;
        let (name, digest) = rest.split_once('@').map_or((rest, None), |(name, digest)| (name, Some(digest)));
        let (repository, tag) = name.rsplit_once(':').unwrap_or((name, "latest"));
        Some(Self {
            image: image.into(),
            registry: registry.into(),
            repository: repository.into(),
            version: digest.unwrap_or(tag).into(),
        })
    }

    fn url(&self, kind: &str, what: &str) -> Result<Url, String> {
        let text = format!("http://{}/v2/{}/{kind}/{what}", self.registry, self.repository);
        url::parse(&text).ok_or_else(|| format!("parse \"{text}\": invalid URL"))
    }
}

/// How long a registry or a proxy may take for each step. containerd waits for half a minute and more, which is made for
/// networks larger than this one.
const PATIENCE: Duration = Duration::from_secs(1);
/// The largest manifest that is read, in bytes, as containerd limits it.
const LARGEST_MANIFEST: u64 = 4 << 20;
/// The largest part of an image that is read, in bytes.
const LARGEST_PART: u64 = 64 << 20;

/// Pulls an image as containerd does, by the proxy that the variables name, as Go reads them: asks which manifest is
/// meant, fetches it and all that it names, and compares each digest. Returns the digest of the manifest.
///
/// The error is in containerd's words.
pub fn pull(from: &Reference, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let image = &from.image;
    let unpacked = |error: String| format!("failed to pull and unpack image \"{image}\": {error}");
    let digest = resolve(from, variable);
    let digest = digest.map_err(|error| unpacked(format!("failed to resolve reference \"{image}\": {error}")))?;
    let copied = |error: String| unpacked(format!("failed to copy: {error}"));
    let manifest = fetch(from, "manifests", &digest, LARGEST_MANIFEST, variable).map_err(copied)?;
    let manifest: Value = serde_json::from_slice(&manifest).map_err(|error| copied(error.to_string()))?;
    let layers = manifest["layers"].as_array().into_iter().flatten();
    for part in std::iter::once(&manifest["config"]).chain(layers) {
        let digest =
            part["digest"].as_str().ok_or_else(|| copied("the manifest names a part without digest".into()))?;
        fetch(from, "blobs", digest, LARGEST_PART, variable).map_err(copied)?;
    }
    Ok(digest)
}

fn resolve(from: &Reference, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let url = from.url("manifests", &from.version)?;
    let response = ask("HEAD", &url, variable)?;
    match response.status {
        200 => response.header("docker-content-digest").map(String::from).ok_or("no digest in response".into()),
        404 => Err(format!("{}: not found", from.image)),
        _ => Err(format!("unexpected status from HEAD request to {}: {}", written(&url), status(&response))),
    }
}

fn fetch(
    from: &Reference,
    kind: &str,
    wanted: &str,
    most: u64,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<u8>, String> {
    let url = from.url(kind, wanted)?;
    let response = ask("GET", &url, variable)?;
    if response.status != 200 {
        return Err(format!("unexpected status from GET request to {}: {}", written(&url), status(&response)));
    }
    let mut body = Vec::new();
    let read = response.body.take(most).read_to_end(&mut body);
    read.map_err(|error| format!("Get \"{}\": {error}", written(&url)))?;
    match digest(&body) {
        found if found == wanted => Ok(body),
        found => Err(format!("unexpected commit digest {found}, expected {wanted}: failed precondition")),
    }
}

fn written(url: &Url) -> String {
    format!("{}://{}{}", url.scheme, url.authority, url.path)
}

/// Code and words of a status line.
fn status(response: &Response) -> &str {
    response.line.split_once(' ').map_or("", |(_, status)| status)
}

fn ask(method: &str, url: &Url, variable: &dyn Fn(&str) -> Option<String>) -> Result<Response, String> {
    let proxy = proxy::for_url(Dialect::Go, url, variable);
    let peer = proxy.as_ref().unwrap_or(url);
    let mut verb = method.to_lowercase();
    verb[..1].make_ascii_uppercase();
    let connecting = if proxy.is_some() { "proxyconnect tcp: " } else { "" };
    let failed = |error: String| format!("failed to do request: {verb} \"{}\": {error}", written(url));
    let address = names::socket_address(&peer.host, peer.port);
    let address =
        address.map_err(|error| failed(format!("{connecting}dial tcp: {}", error.in_go_words(&peer.host))))?;
    let dialled = |error: io::Error| {
        failed(format!("{connecting}dial tcp {address}: {}", crate::errors::in_go_words("connect", &error)))
    };
    let stream = streams::connect(address, PATIENCE).map_err(dialled)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(|error| failed(error.to_string()))?;
    let accept = format!("{MANIFEST}, application/vnd.docker.distribution.manifest.v2+json, */*");
    let headers = vec![("User-Agent".into(), "containerd/cknet".into()), ("Accept".into(), accept)];
    let ask = Ask { method: Some(method.into()), headers, body: Vec::new() };
    let response = match proxy {
        Some(_) => client::send_to_proxy(stream, url, &ask),
        None => client::send(stream, url, &ask),
    };
    response.map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => failed("EOF".into()),
        _ if crate::errors::is_timeout(&error) => failed("net/http: timeout awaiting response headers".into()),
        _ => failed(error.to_string()),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rstest::rstest;
    use std::net::TcpListener;

    fn reference(registry: SocketAddr, rest: &str) -> Reference {
        Reference::at_an_address(&format!("{registry}/{rest}")).unwrap()
    }

    fn serve(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        std::thread::spawn(move || server::serve(&listener, answer));
        at
    }

    #[rstest]
    #[case("192.0.2.5:5000/agnhost:2.53", Some(("agnhost", "2.53")))]
    #[case("192.0.2.5:5000/team/agnhost", Some(("team/agnhost", "latest")))]
    #[case("192.0.2.5:5000/agnhost:2.53@sha256:00", Some(("agnhost", "sha256:00")))]
    #[case("registry.k8s.io/agnhost:2.53", None)]
    #[case("localhost:5000/agnhost", None)]
    #[case("192.0.2.5/agnhost", None)]
    #[case("agnhost", None)]
    fn only_a_registry_with_address_and_port_is_asked(#[case] image: &str, #[case] expected: Option<(&str, &str)>) {
        let found = Reference::at_an_address(image);
        assert_eq!(found.as_ref().map(|one| (one.repository.as_str(), one.version.as_str())), expected);
    }

    #[test]
    fn an_image_is_pulled_by_its_tag_and_by_its_digest() {
        let at = serve(answer);
        let digest = pull(&reference(at, "team/agnhost:2.53"), &|_| None).unwrap();
        assert_eq!(pull(&reference(at, &format!("team/agnhost@{digest}")), &|_| None).unwrap(), digest);
        assert_ne!(pull(&reference(at, "other"), &|_| None).unwrap(), digest);
        let image = format!("{at}/agnhost@sha256:00");
        let missing = pull(&reference(at, "agnhost@sha256:00"), &|_| None).unwrap_err();
        let words = format!("failed to pull and unpack image \"{image}\": failed to resolve reference \"{image}\": ");
        assert_eq!(missing, format!("{words}{image}: not found"));
    }

    #[test]
    fn the_proxy_is_asked_unless_the_registry_is_excepted() {
        let (asked, count) = (std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0)), 4);
        let counted = std::sync::Arc::clone(&asked);
        // A server that is asked with the whole URL answers as well.
        let proxy = serve(move |request| {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            answer(request)
        });
        let elsewhere = Reference::at_an_address("192.0.2.5:5000/agnhost").unwrap();
        let variable = |name: &str| (name == "HTTP_PROXY").then(|| format!("http://{proxy}"));
        pull(&elsewhere, &variable).unwrap();
        assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), count);
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let variable = |name: &str| (name == "HTTP_PROXY").then(|| format!("http://{closed}"));
        let refused = pull(&elsewhere, &variable).unwrap_err();
        assert!(
            refused.ends_with(&format!("proxyconnect tcp: dial tcp {closed}: connect: connection refused")),
            "{refused}"
        );
        let here = Reference::at_an_address(&format!("{closed}/agnhost")).unwrap();
        let refused = pull(&here, &variable).unwrap_err();
        assert!(refused.ends_with(&format!(": dial tcp {closed}: connect: connection refused")), "{refused}");
        assert!(!refused.contains("proxyconnect"), "loopback is never asked for by a proxy: {refused}");
    }

    #[test]
    fn what_is_not_what_its_digest_says_is_refused() {
        let at = serve(|request| match (request.method.as_str(), answer(request)) {
            ("GET", reply) => Reply { body: b"something else".to_vec(), ..reply },
            (_, reply) => reply,
        });
        let refused = pull(&reference(at, "agnhost"), &|_| None).unwrap_err();
        assert!(refused.contains("unexpected commit digest sha256:"), "{refused}");
        let at = serve(|_| Reply::error(503, "later"));
        let refused = pull(&reference(at, "agnhost"), &|_| None).unwrap_err();
        assert!(refused.ends_with("503 Service Unavailable"), "{refused}");
    }
}
