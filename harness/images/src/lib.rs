//! What containers of public test images do: agnhost, the networking commands of busybox, curl, small web servers.
//!
//! There is no container engine, so nothing of these images is here: their documented command lines, words and exit
//! codes are spoken by our own executable, which is told by the name it is started under which program it is. This
//! crate knows sockets and words; it knows nothing of Kubernetes, kubelets and verdicts.

mod agnhost;
mod busybox;
mod curl;
mod entrypoint;
mod errors;
mod http;
mod names;
mod options;
mod proxy;
mod redis;
pub mod registry;
mod say;
mod streams;
mod time;
mod web;

use std::process::ExitCode;

/// The name of the test program that lies in the root folder of its image.
pub const AGNHOST: &str = "agnhost";

/// The programs that are found on the path inside containers of the images.
pub const PROGRAMS: &[&str] = &[
    AGNHOST,
    "apache",
    "ash",
    "busybox",
    "curl",
    "entrypoint",
    "hello-app",
    "http-echo",
    "httpd",
    "httpd-foreground",
    "nc",
    "netcat",
    "nginx",
    "nslookup",
    "ping",
    "redis-cli",
    "redis-server",
    "registry",
    "two-ports",
    "wget",
];

/// Runs the program that `name` (`argv[0]`, with or without folders) means, if it means one.
pub fn run(name: &str, arguments: &[String]) -> Option<ExitCode> {
    let program = name.rsplit('/').next()?;
    let code = match program {
        AGNHOST => agnhost::run(arguments),
        "busybox" => return Some(busybox::run(arguments)),
        "ash" => entrypoint::shell(arguments),
        "curl" => curl::run(arguments),
        "entrypoint" => entrypoint::run(arguments),
        "forward-proxy" => proxy::forward::run(arguments),
        "hello-app" => web::hello_app(),
        "http-echo" => web::http_echo(arguments),
        "httpd" => busybox::httpd::run(arguments),
        "httpd-foreground" | "apache" => web::apache(),
        "nc" | "netcat" => busybox::nc::run(arguments),
        "nginx" => web::nginx(),
        "nslookup" => busybox::nslookup::run(arguments),
        "ping" => busybox::ping::run(arguments),
        "redis-cli" => redis::client(arguments),
        "redis-server" => redis::server(arguments),
        "registry" => registry::run(arguments),
        "two-ports" => web::two_ports(),
        "wget" => busybox::wget::run(arguments),
        _ => return None,
    };
    Some(ExitCode::from(code))
}
