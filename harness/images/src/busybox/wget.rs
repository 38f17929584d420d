//! `wget`: fetches one URL after the other over HTTP.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use super::{fail, options_of};
use crate::errors::{in_c_words, is_timeout};
use crate::http::client::{self, Ask, Response};
use crate::http::url::{self, Url};
use crate::options::{Given, Known, flag, long_flag, long_value, value};
use crate::proxy::{self, Dialect};
use crate::{names, say, streams, time};

const OPTIONS: &[Known] = &[
    flag('q', "quiet"),
    flag('c', "continue"),
    flag('S', "server-response"),
    value('O', "output-document"),
    value('o', "output-file"),
    value('P', "directory-prefix"),
    value('U', "user-agent"),
    value('T', "timeout"),
    value('t', "tries"),
    value('Y', "proxy"),
    long_flag("spider"),
    long_flag("no-check-certificate"),
    long_flag("no-verbose"),
    long_value("header"),
    long_value("post-data"),
];
/// How long a peer may be silent, unless `-T` says otherwise.
const PATIENCE: Duration = Duration::from_secs(900);
const MOST_REDIRECTS: usize = 5;

pub fn run(arguments: &[String]) -> u8 {
    let given = match options_of("wget", arguments, OPTIONS) {
        Ok(given) => given,
        Err(code) => return code,
    };
    if given.operands.is_empty() {
        return fail("wget", "missing URL\nUsage: wget [-qS] [--spider] [-O FILE] [-T SEC] [--header STR] URL...");
    }
    let patience = match given.value("timeout").map(time::seconds) {
        Some(None) => return fail("wget", format!("invalid number '{}'", given.value("timeout").unwrap_or_default())),
        Some(Some(patience)) if !patience.is_zero() => patience,
        _ => PATIENCE,
    };
    for text in &given.operands {
        if let Err(what) = fetch(text, &given, patience) {
            return fail("wget", what);
        }
    }
    0
}

fn fetch(text: &str, given: &Given, patience: Duration) -> Result<(), String> {
    let mut url = url::parse(text).ok_or_else(|| format!("not an http or ftp url: {text}"))?;
    for _ in 0..=MOST_REDIRECTS {
        let response = ask(&url, given, patience)?;
        if given.has("server-response") {
            say::error(format_args!("  {}", response.line));
            response.headers.iter().for_each(|(name, value)| say::error(format_args!("  {name}: {value}")));
        }
        match response.status {
            200..=299 => return take(response, &url, given),
            301..=303 | 307 | 308 => {
                let to = response.header("location").and_then(|location| url::joined(&url, location));
                url = to.ok_or("redirection without a location")?;
            }
            _ => return Err(format!("server returned error: {}", response.line)),
        }
    }
    Err("too many redirections".into())
}

fn ask(url: &Url, given: &Given, patience: Duration) -> Result<Response, String> {
    if url.scheme != "http" {
        return Err(format!("{}: only plain http is spoken here", url.scheme));
    }
    let proxy = if given.value("proxy") == Some("off") { None } else { proxy::of_environment(Dialect::Busybox, url) };
    let peer = proxy.as_ref().unwrap_or(url);
    // The name is looked up before the clock starts.
    let addresses = names::addresses(&peer.host).map_err(|_| format!("bad address '{}'", peer.authority))?;
    let address = addresses.first().map(|ip| SocketAddr::new(*ip, peer.port));
    let address = address.ok_or_else(|| format!("bad address '{}'", peer.authority))?;
    if !given.has("quiet") {
        say::error(format_args!("Connecting to {} ({address})", peer.authority));
    }
    let stream = streams::connect(address, patience).map_err(|error| {
        if is_timeout(&error) {
            return "download timed out".to_string();
        }
        format!("can't connect to remote host ({}): {}", address.ip(), in_c_words(&error))
    })?;
    stream.set_read_timeout(Some(patience)).map_err(|error| in_c_words(&error))?;
    let mut headers = vec![("User-Agent".to_string(), given.value("user-agent").unwrap_or("Wget").to_string())];
    headers.extend(given.values("header").filter_map(|header| {
        header.split_once(':').map(|(name, value)| (name.trim().to_string(), value.trim().to_string()))
    }));
    let mut ask = Ask { method: None, headers, body: Vec::new() };
    if let Some(data) = given.value("post-data") {
        ask.method = Some("POST".into());
        ask.headers.push(("Content-Type".into(), "application/x-www-form-urlencoded".into()));
        ask.body = data.as_bytes().to_vec();
    }
    let response = match proxy {
        Some(_) => client::send_to_proxy(stream, url, &ask),
        None => client::send(stream, url, &ask),
    };
    response.map_err(|error| match error.kind() {
        _ if is_timeout(&error) => "download timed out".into(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => "error getting response".into(),
        _ => format!("error getting response: {}", in_c_words(&error)),
    })
}

/// Keeps the body where it is wanted.
fn take(mut response: Response, url: &Url, given: &Given) -> Result<(), String> {
    let quiet = given.has("quiet");
    if given.has("spider") {
        if !quiet {
            say::error("remote file exists");
        }
        return Ok(());
    }
    let name = match given.value("output-document") {
        Some(name) => name.to_string(),
        None => {
            let path = url.path.split('?').next().unwrap_or_default();
            let last = path.rsplit('/').next().filter(|last| !last.is_empty()).unwrap_or("index.html");
            given.value("directory-prefix").map_or_else(|| last.to_string(), |folder| format!("{folder}/{last}"))
        }
    };
    let to_stdout = name == "-";
    let mut file: Box<dyn Write> = if to_stdout {
        Box::new(io::stdout())
    } else {
        Box::new(File::create(&name).map_err(|error| format!("can't open '{name}': {}", in_c_words(&error)))?)
    };
    if !quiet {
        say::error(if to_stdout { "writing to stdout".into() } else { format!("saving to '{name}'") });
    }
    let count = copy(&mut response.body, &mut *file)?;
    if !quiet {
        say::error(format_args!("{name:<20} 100% |{}| {count:>5}  0:00:00 ETA", "*".repeat(32)));
        say::error(if to_stdout { "written to stdout".into() } else { format!("'{name}' saved") });
    }
    Ok(())
}

fn copy(from: &mut impl Read, to: &mut dyn Write) -> Result<u64, String> {
    let copied = io::copy(from, to).and_then(|count| to.flush().map(|()| count));
    copied.map_err(|error| match error.kind() {
        _ if is_timeout(&error) => "download timed out".into(),
        io::ErrorKind::UnexpectedEof => "connection closed prematurely".into(),
        _ => in_c_words(&error),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::http::{Reply, server};
    use std::net::TcpListener;

    fn served() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            server::serve(&listener, |request| match request.path.as_str() {
                "/away" => Reply::of(302, "text/plain", "").with("Location", "/here"),
                "/here" => Reply::text(format!("{} {}", request.method, request.header("x-me"))),
                _ => Reply::error(404, "no"),
            })
        });
        at
    }

    fn fetched(line: &str) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        // Where the tests are run there may be a proxy.
        let line = format!("-q -Y off -O {} {line}", out.display());
        let words: Vec<String> = line.split_whitespace().map(String::from).collect();
        let given = crate::options::read(&words, OPTIONS).unwrap();
        fetch(&given.operands[0], &given, Duration::from_millis(300))?;
        Ok(std::fs::read_to_string(out).unwrap())
    }

    #[test]
    fn a_page_is_fetched_over_redirects_with_headers() {
        let at = served();
        assert_eq!(fetched(&format!("--header X-Me:you http://{at}/away")).unwrap(), "GET you");
        assert_eq!(fetched(&format!("--post-data a=b {at}/here")).unwrap(), "POST ");
    }

    #[test]
    fn failures_have_the_words_that_people_look_for() {
        let at = served();
        let missing = fetched(&format!("http://{at}/nope")).unwrap_err();
        assert_eq!(missing, "server returned error: HTTP/1.1 404 Not Found");
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let refused = fetched(&format!("http://{closed}/")).unwrap_err();
        assert_eq!(refused, "can't connect to remote host (127.0.0.1): Connection refused");
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let waited = fetched(&format!("http://{}/", silent.local_addr().unwrap())).unwrap_err();
        assert_eq!(waited, "download timed out");
    }
}
