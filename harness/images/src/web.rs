//! Small web servers that tutorials use as the thing to reach.

use std::fs;
use std::path::{Component, Path};

use crate::http::{Reply, Request, server};
use crate::options::{self, Known, long_value};
use crate::{say, streams};

/// The largest file that is served, in bytes.
const LARGEST: u64 = 16 << 20;

/// The file below `folder` that `path` names; a folder's is its `index.html`.
pub fn file(folder: &Path, path: &str) -> Reply {
    let missing = || Reply::of(404, "text/html", "<html><body><h1>404 Not Found</h1></body></html>\n");
    let path = Path::new(path.trim_start_matches('/'));
    if path.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
        return missing();
    }
    let mut file = folder.join(path);
    if file.is_dir() {
        file.push("index.html");
    }
    match fs::metadata(&file) {
        Ok(about) if about.is_file() && about.len() <= LARGEST => {}
        _ => return missing(),
    }
    match fs::read(&file) {
        Ok(bytes) => Reply::of(200, kind_of(&file), bytes),
        Err(_) => missing(),
    }
}

fn kind_of(file: &Path) -> &'static str {
    match file.extension().and_then(|end| end.to_str()) {
        Some("html" | "htm") => "text/html",
        Some("css") => "text/css",
        Some("json") => "application/json",
        Some("txt") => "text/plain",
        _ => "application/octet-stream",
    }
}

fn serve(ports: &[u16], answer: impl Fn(u16, &Request) -> Reply + Clone + Send + Sync + 'static) -> u8 {
    let mut listeners = Vec::new();
    for port in ports {
        match streams::listen(*port) {
            Ok(listener) => listeners.push((*port, listener)),
            Err(error) => {
                say::error(format_args!("bind() to 0.0.0.0:{port} failed: {}", crate::errors::in_c_words(&error)));
                return 1;
            }
        }
    }
    let servers: Vec<_> = listeners
        .into_iter()
        .map(|(port, listener)| {
            let answer = answer.clone();
            std::thread::spawn(move || server::serve(&listener, move |request| answer(port, request)))
        })
        .collect();
    servers.into_iter().filter_map(|server| server.join().ok()).for_each(say::error);
    1
}

/// One line per request, as access logs have it.
fn log(request: &Request, status: u16) {
    let (peer, method, path) = (request.peer.ip(), &request.method, &request.path);
    let agent = request.header("user-agent");
    say::line(format_args!("{peer} - - \"{method} {path} HTTP/1.1\" {status} \"{agent}\""));
}

/// nginx with its page, on port 80, and on 8080 where the image without privileges has it.
pub fn nginx() -> u8 {
    let port = std::env::var("NGINX_PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(80);
    welcome(port, "/usr/share/nginx/html", "nginx/1.27 (cknet)", NGINX)
}

const NGINX: &str = "<!DOCTYPE html>\n<html>\n<head><title>Welcome to nginx!</title></head>\n<body>\n\
                     <h1>Welcome to nginx!</h1>\n<p>This page comes from cknet in the place of nginx.</p>\n\
                     </body>\n</html>\n";

/// Apache with its page.
pub fn apache() -> u8 {
    welcome(80, "/usr/local/apache2/htdocs", "Apache/2.4 (cknet)", "<html><body><h1>It works!</h1></body></html>\n")
}

fn welcome(port: u16, folder: &'static str, name: &'static str, page: &'static str) -> u8 {
    serve(&[port], move |_, request| {
        let found = file(folder.as_ref(), &request.path);
        let reply = match (found.status, request.path.as_str()) {
            (404, "/" | "/index.html") => Reply::page(page),
            _ => found,
        };
        log(request, reply.status);
        reply.with("Server", name)
    })
}

/// Answers `Hello, world!`, its version and its host name on `$PORT` or 8080.
pub fn hello_app() -> u8 {
    let port = std::env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(8080);
    say::error(format_args!("Server listening on port {port}"));
    serve(&[port], |_, request| {
        say::error(format_args!("Serving request: {}", request.path));
        let name = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Reply::text(format!("Hello, world!\nVersion: 1.0.0\nHostname: {name}\n"))
    })
}

const HTTP_ECHO: &[Known] = &[long_value("text"), long_value("listen"), long_value("status-code")];

/// `-text=TEXT -listen=:PORT`: answers with the text.
pub fn http_echo(arguments: &[String]) -> u8 {
    // Go takes one dash for two.
    let doubled = |word: &String| match word.strip_prefix('-') {
        Some(rest) if !rest.starts_with('-') => format!("--{rest}"),
        _ => word.clone(),
    };
    let arguments: Vec<String> = arguments.iter().map(doubled).collect();
    let given = match options::read(&arguments, HTTP_ECHO) {
        Ok(given) => given,
        Err(problem) => {
            say::error(problem);
            return 127;
        }
    };
    let place = given.value("listen").unwrap_or(":5678");
    let port = place.rsplit(':').next().and_then(|port| port.parse().ok());
    let text = given.value("text").map(str::to_string).or_else(|| std::env::var("ECHO_TEXT").ok());
    let (Some(port), Some(text)) = (port, text) else {
        say::error("Missing -text option, or -listen is no address!");
        return 127;
    };
    let status = given.number("status-code", 200).unwrap_or(200);
    say::error(format_args!("[INFO] server is listening on {place}"));
    serve(&[port], move |_, _| Reply::of(status, "text/plain; charset=utf-8", format!("{text}\n")))
}

/// An application with a page on port 8000 and figures on port 5000.
pub fn two_ports() -> u8 {
    serve(&[8000, 5000], |port, _| match port {
        8000 => Reply::text("Hello from HTTP server.\n"),
        _ => Reply::text("http.requests=1\ngo.goroutines=5\ngo.cpus=1\n"),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_files_of_the_folder_are_served() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("index.html"), "hi").unwrap();
        assert_eq!((file(folder.path(), "/").status, file(folder.path(), "/index.html").body), (200, b"hi".to_vec()));
        assert_eq!(file(folder.path(), "/nope").status, 404);
        assert_eq!(file(folder.path(), "/../../etc/passwd").status, 404);
        assert_eq!(file(folder.path(), "//etc/passwd").status, 404);
    }
}
