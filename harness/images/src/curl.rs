//! `curl` as far as tutorials use it: HTTP without TLS, and `telnet://` to see whether a port is open.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::errors::{in_c_words, is_timeout};
use crate::http::client::{self, Ask, Response};
use crate::http::url::{self, Url};
use crate::options::{self, Given, Known, flag, long_flag, long_value, value};
use crate::proxy::{self, Dialect};
use crate::{names, say, streams, time};

const OPTIONS: &[Known] = &[
    flag('s', "silent"),
    flag('S', "show-error"),
    flag('f', "fail"),
    flag('i', "include"),
    flag('I', "head"),
    flag('L', "location"),
    flag('v', "verbose"),
    flag('k', "insecure"),
    flag('g', "globoff"),
    flag('q', "disable"),
    flag('4', "ipv4"),
    flag('N', "no-buffer"),
    long_flag("retry-connrefused"),
    long_flag("fail-with-body"),
    long_flag("no-progress-meter"),
    long_flag("http1.1"),
    value('m', "max-time"),
    value('o', "output"),
    value('w', "write-out"),
    value('H', "header"),
    value('X', "request"),
    value('d', "data"),
    value('A', "user-agent"),
    value('x', "proxy"),
    flag('p', "proxytunnel"),
    long_value("connect-timeout"),
    long_value("retry"),
    long_value("retry-delay"),
    long_value("retry-max-time"),
    long_value("noproxy"),
    long_value("interface"),
    long_value("url"),
];
const MOST_REDIRECTS: usize = 50;
/// Without a limit of its own curl waits this long for a connection.
const CONNECTING: Duration = Duration::from_secs(300);

/// Why a transfer failed: curl's number and words.
type Failure = (u8, String);

/// What is told of a transfer with `-w`.
#[derive(Default)]
struct Story {
    status: u16,
    size: u64,
    remote: Option<SocketAddr>,
    local: Option<SocketAddr>,
    connected: Duration,
    total: Duration,
}

pub fn run(arguments: &[String]) -> u8 {
    let given = match options::read(arguments, OPTIONS) {
        Ok(given) => given,
        Err(problem) => return fail_with(2, &format!("curl: {problem}")),
    };
    let urls: Vec<&str> = given.operands.iter().map(String::as_str).chain(given.values("url")).collect();
    if urls.is_empty() {
        return fail_with(2, "curl: (2) no URL specified");
    }
    let mut last = 0;
    for url in urls {
        last = transfer_with_retries(url, &given);
    }
    last
}

fn fail_with(code: u8, text: &str) -> u8 {
    say::error(text);
    code
}

fn transfer_with_retries(text: &str, given: &Given) -> u8 {
    let retries: u32 = given.number("retry", 0).unwrap_or(0);
    let delay = given.value("retry-delay").and_then(time::seconds).filter(|delay| !delay.is_zero());
    for attempt in 0.. {
        let mut story = Story::default();
        let begun = Instant::now();
        let outcome = transfer(text, given, begun, &mut story);
        story.total = begun.elapsed();
        let passes = match &outcome {
            Err((28, _)) => true,
            Err((7, _)) => given.has("retry-connrefused"),
            _ => matches!(story.status, 408 | 429 | 500 | 502 | 503 | 504),
        };
        if passes && attempt < retries {
            // The pause between tries that was asked for: a second, doubled each time, unless given.
            std::thread::sleep(delay.unwrap_or(Duration::from_secs(1 << attempt.min(9))));
            continue;
        }
        let (code, words) = outcome.err().unwrap_or_default();
        if code != 0 && (!given.has("silent") || given.has("show-error")) {
            say::error(format_args!("curl: ({code}) {words}"));
        }
        if let Some(format) = given.value("write-out") {
            say::text(written_out(format, &story, code, &words));
        }
        return code;
    }
    0
}

fn transfer(text: &str, given: &Given, begun: Instant, story: &mut Story) -> Result<(), Failure> {
    let mut url = url::parse(text).ok_or_else(|| (3, "URL rejected: Malformed input to a URL function".to_string()))?;
    for _ in 0..=MOST_REDIRECTS {
        let proxy = proxy_for(&url, given)?;
        let mut stream = connect(&url, proxy.as_ref(), given, begun, story)?;
        let left = limit(given, begun)?;
        stream.set_read_timeout(left).map_err(|error| (56, in_c_words(&error)))?;
        let received = |error: io::Error| receive_failure(&error, begun);
        let is_tunnelled = proxy.is_some() && (given.has("proxytunnel") || url.scheme != "http");
        if is_tunnelled {
            let tunnel = client::tunnel(stream, &url.host, url.port).map_err(received)?;
            stream = tunnel.map_err(|status| (56, format!("CONNECT tunnel failed, response {status}")))?;
        }
        match url.scheme.as_str() {
            "http" => {}
            "telnet" => return Ok(()),
            other => return Err((1, format!("Protocol \"{other}\" not supported here, only plain http"))),
        }
        let response = match proxy {
            Some(_) if !is_tunnelled => client::send_to_proxy(stream, &url, &ask(given)),
            _ => client::send(stream, &url, &ask(given)),
        };
        let response = response.map_err(received)?;
        story.status = response.status;
        let location = response.header("location").and_then(|location| url::joined(&url, location));
        match location {
            Some(to) if given.has("location") && (300..400).contains(&response.status) => url = to,
            _ => return take(response, given, begun, story),
        }
    }
    Err((47, format!("Maximum ({MOST_REDIRECTS}) redirects followed")))
}

/// What is left of `-m`; `None` without one.
fn limit(given: &Given, begun: Instant) -> Result<Option<Duration>, Failure> {
    let Some(whole) = given.value("max-time").and_then(time::seconds).filter(|whole| !whole.is_zero()) else {
        return Ok(None);
    };
    match whole.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) {
        Some(left) => Ok(Some(left)),
        None => Err(timed_out("Operation", begun)),
    }
}

fn timed_out(what: &str, begun: Instant) -> Failure {
    (28, format!("{what} timed out after {} milliseconds", begun.elapsed().as_millis()))
}

/// The proxy by which `url` is asked: that of `-x`, else that of the environment, unless it is to be asked directly.
fn proxy_for(url: &Url, given: &Given) -> Result<Option<Url>, Failure> {
    let variable = |name: &str| match (name, given.value("proxy"), given.value("noproxy")) {
        ("no_proxy", _, Some(list)) => Some(list.to_string()),
        ("NO_PROXY", _, Some(_)) => None,
        ("no_proxy" | "NO_PROXY", ..) | (_, None, _) => std::env::var(name).ok(),
        // For every scheme; an empty one means none.
        (_, Some(proxy), _) => Some(proxy.to_string()),
    };
    match proxy::for_url(Dialect::Curl, url, &variable) {
        Some(proxy) if proxy.scheme != "http" => {
            Err((7, format!("a proxy of `{}` is not supported here, only one of plain http", proxy.scheme)))
        }
        found => Ok(found),
    }
}

fn connect(
    url: &Url,
    proxy: Option<&Url>,
    given: &Given,
    begun: Instant,
    story: &mut Story,
) -> Result<std::net::TcpStream, Failure> {
    let (url, unresolved) = proxy.map_or((url, (6, "host")), |proxy| (proxy, (5, "proxy")));
    let connecting = given.value("connect-timeout").and_then(time::seconds).filter(|limit| !limit.is_zero());
    let patience = connecting.unwrap_or(CONNECTING).min(limit(given, begun)?.unwrap_or(CONNECTING));
    let resolved = names::addresses_within(&url.host, patience.min(Duration::from_secs(10)));
    let address = match resolved {
        Ok(found) => found.first().map(|ip| SocketAddr::new(*ip, url.port)),
        Err(names::NoAddress::NoAnswer { .. }) if begun.elapsed() >= patience => {
            return Err(timed_out("Resolving", begun));
        }
        Err(_) => None,
    };
    let address = address.ok_or_else(|| (unresolved.0, format!("Could not resolve {}: {}", unresolved.1, url.host)))?;
    if given.has("verbose") {
        say::error(format_args!("*   Trying {address}..."));
    }
    let left = patience.saturating_sub(begun.elapsed()).max(Duration::from_millis(1));
    let stream = streams::connect(address, left).map_err(|error| {
        if is_timeout(&error) {
            return timed_out("Connection", begun);
        }
        let took = begun.elapsed().as_millis();
        (7, format!("Failed to connect to {} port {} after {took} ms: Could not connect to server", url.host, url.port))
    })?;
    (story.connected, story.remote, story.local) = (begun.elapsed(), Some(address), stream.local_addr().ok());
    if given.has("verbose") {
        say::error(format_args!("* Connected to {} ({}) port {}", url.host, address.ip(), address.port()));
    }
    Ok(stream)
}

fn ask(given: &Given) -> Ask {
    let data: Vec<&str> = given.values("data").collect();
    let method = match given.value("request") {
        Some(method) => Some(method.to_string()),
        None if given.has("head") => Some("HEAD".into()),
        None if !data.is_empty() => Some("POST".into()),
        None => None,
    };
    let mut headers: Vec<(String, String)> = given
        .values("header")
        .filter_map(|header| header.split_once(':').map(|(name, value)| (name.trim().into(), value.trim().into())))
        .collect();
    headers.push(("User-Agent".into(), given.value("user-agent").unwrap_or("curl/8 (cknet)").into()));
    headers.push(("Accept".into(), "*/*".into()));
    if !data.is_empty() && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
        headers.push(("Content-Type".into(), "application/x-www-form-urlencoded".into()));
    }
    Ask { method, headers, body: data.join("&").into_bytes() }
}

fn receive_failure(error: &io::Error, begun: Instant) -> Failure {
    match error.kind() {
        _ if is_timeout(error) => timed_out("Operation", begun),
        io::ErrorKind::UnexpectedEof => (52, "Empty reply from server".into()),
        io::ErrorKind::InvalidData => (1, "Received HTTP/0.9 when not allowed".into()),
        _ => (56, format!("Recv failure: {}", in_c_words(error))),
    }
}

fn take(mut response: Response, given: &Given, begun: Instant, story: &mut Story) -> Result<(), Failure> {
    if given.has("fail") && response.status >= 400 {
        return Err((22, format!("The requested URL returned error: {}", response.status)));
    }
    let mut to: Box<dyn Write> = match given.value("output") {
        None | Some("-") => Box::new(io::stdout()),
        Some(name) => Box::new(File::create(name).map_err(|error| (23, in_c_words(&error)))?),
    };
    let mut head = String::new();
    if given.has("include") || given.has("head") {
        head = format!("{}\r\n", response.line);
        response.headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        head += "\r\n";
    }
    let mut buffer = [0; 16 * 1024];
    let mut write =
        |bytes: &[u8]| to.write_all(bytes).and_then(|()| to.flush()).map_err(|error| (23, in_c_words(&error)));
    write(head.as_bytes())?;
    loop {
        match streams::undisturbed(|| response.body.read(&mut buffer)) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                story.size += count as u64;
                write(&buffer[..count])?;
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err((18, "transfer closed with outstanding read data remaining".into()));
            }
            Err(error) => return Err(receive_failure(&error, begun)),
        }
    }
}

/// The text of `-w` with its variables.
fn written_out(format: &str, story: &Story, code: u8, words: &str) -> String {
    let address = |address: Option<SocketAddr>| address.map(|address| address.ip().to_string()).unwrap_or_default();
    let port = |address: Option<SocketAddr>| address.map_or(0, |address| address.port()).to_string();
    let seconds = |time: Duration| format!("{:.6}", time.as_secs_f64());
    let variables = [
        ("http_code", format!("{:03}", story.status)),
        ("response_code", format!("{:03}", story.status)),
        ("size_download", story.size.to_string()),
        ("remote_ip", address(story.remote)),
        ("remote_port", port(story.remote)),
        ("local_ip", address(story.local)),
        ("local_port", port(story.local)),
        ("time_connect", seconds(story.connected)),
        ("time_total", seconds(story.total)),
        ("exitcode", code.to_string()),
        ("errormsg", words.to_string()),
    ];
    let mut text = format.replace("\\n", "\n").replace("\\t", "\t").replace("\\r", "\r");
    for (name, value) in variables {
        text = text.replace(&format!("%{{{name}}}"), &value);
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::http::{Reply, server};
    use std::net::TcpListener;

    fn curl(line: &str) -> (u8, Story) {
        // Where the tests are run there may be a proxy.
        let own = if line.contains(" -x ") { "" } else { " --noproxy *" };
        let words: Vec<String> = format!("{line}{own}").split_whitespace().map(String::from).collect();
        let given = options::read(&words, OPTIONS).unwrap();
        let mut story = Story::default();
        let outcome = transfer(&given.operands[0], &given, Instant::now(), &mut story);
        (outcome.err().map_or(0, |(code, _)| code), story)
    }

    #[test]
    fn a_transfer_ends_with_curls_number() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            server::serve(&listener, |request| match request.path.as_str() {
                "/" => Reply::text("hi"),
                "/away" => Reply::of(302, "text/plain", "").with("Location", "/"),
                _ => Reply::error(404, "no"),
            })
        });
        let to = "-s -o /dev/null";
        let (code, story) = curl(&format!("{to} http://{at}/"));
        assert_eq!((code, story.status, story.size), (0, 200, 2));
        assert_eq!(curl(&format!("{to} {at}/away")).1.status, 302);
        assert_eq!(curl(&format!("{to} -L {at}/away")).1.status, 200);
        assert_eq!(curl(&format!("{to} {at}/nope")).0, 0);
        assert_eq!(curl(&format!("{to} -f {at}/nope")).0, 22);
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(curl(&format!("{to} http://{closed}/")).0, 7);
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(curl(&format!("{to} -m 0.2 http://{}/", silent.local_addr().unwrap())).0, 28);
    }

    #[test]
    fn a_proxy_is_asked_unless_the_host_is_excepted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (at, log) = (listener.local_addr().unwrap(), tempfile::NamedTempFile::new().unwrap());
        let written = log.reopen().unwrap();
        std::thread::spawn(move || proxy::forward::serve(&listener, written));
        let origin = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = origin.local_addr().unwrap();
        std::thread::spawn(move || server::serve(&origin, |request| Reply::text(request.path.clone())));
        let quiet = "-s -o /dev/null";
        assert_eq!(curl(&format!("{quiet} -x {at} http://{to}/by-proxy")).1.status, 200);
        assert_eq!(curl(&format!("{quiet} -x {at} -p http://{to}/by-tunnel")).1.status, 200);
        assert_eq!(curl(&format!("{quiet} -x {at} --noproxy 127.0.0.0/8 http://{to}/directly")).1.status, 200);
        assert_eq!(curl(&format!("{quiet} -x {at} -m 1 telnet://{to}")).0, 0);
        let log = std::fs::read_to_string(log.path()).unwrap();
        assert!(
            log.contains(&format!("GET http://{to}/by-proxy ")) && log.contains(&format!("CONNECT {to} ")),
            "{log}"
        );
        assert!(!log.contains("by-tunnel") && !log.contains("directly"), "{log}");
        assert_eq!(curl(&format!("{quiet} -x socks5://{at} http://{to}/")).0, 7);
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(curl(&format!("{quiet} -x {at} -p http://{closed}/")).0, 56);
        assert_eq!(curl(&format!("{quiet} -x {closed} http://{to}/")).0, 7);
    }

    #[test]
    fn what_is_written_out_is_known_even_of_a_failure() {
        let story = Story::default();
        assert_eq!(written_out("%{http_code}\\n", &story, 28, "late"), "000\n");
        assert_eq!(written_out("%{exitcode} %{errormsg}", &story, 28, "late"), "28 late");
    }
}
