//! The small subcommands: `pause`, `liveness`, `test-webserver`, `entrypoint-tester`.

use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};

use super::{number, options_of};
use crate::http::{Reply, server};
use crate::options::{Known, long_value};
use crate::{say, streams, web};

const PAUSE: &[Known] = &[long_value("delay-shutdown")];
const PORT: &[Known] = &[long_value("port")];
/// How long `liveness` is alive.
const LIFE: Duration = Duration::from_secs(10);

/// Waits for a signal: 1 after SIGINT, 2 after SIGTERM.
pub fn pause(arguments: &[String]) -> u8 {
    let delay = options_of(arguments, PAUSE, 0).and_then(|given| number(&given, "delay-shutdown", 0));
    let delay = match delay {
        Ok(delay) => Duration::from_secs(delay),
        Err(code) => return code,
    };
    say::line("Paused");
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGTERM);
    ends.add(Signal::SIGINT);
    let code = match ends.thread_block().and_then(|()| ends.wait()) {
        Ok(Signal::SIGTERM) => 2,
        _ => 1,
    };
    if !delay.is_zero() {
        say::line(format_args!("Sleeping {} seconds before exit ...", delay.as_secs()));
        thread::sleep(delay);
    }
    code
}

/// `/healthz` on port 8080: well for ten seconds, then an error for the rest of its life.
pub fn liveness(_: &[String]) -> u8 {
    let begun = Instant::now();
    serve(8080, move |request| match request.path.as_str() {
        "/healthz" if begun.elapsed() > LIFE => {
            Reply::of(500, "text/plain", format!("error: {}", begun.elapsed().as_secs_f64()))
        }
        "/healthz" => Reply::text("ok"),
        "/started" => Reply::text(begun.elapsed().as_secs_f64().to_string()),
        _ => Reply::error(404, "404 page not found"),
    })
}

/// Serves the files of the pod.
pub fn test_webserver(arguments: &[String]) -> u8 {
    match options_of(arguments, PORT, 0).and_then(|given| number(&given, "port", 80)) {
        Ok(port) => serve(port, |request| web::file("/".as_ref(), &request.path)),
        Err(code) => code,
    }
}

/// Says what it was started with.
pub fn entrypoint_tester(_: &[String]) -> u8 {
    let words: Vec<String> = std::env::args().collect();
    say::line(format_args!("[{}]", words.join(" ")));
    0
}

fn serve(port: u16, answer: impl Fn(&crate::http::Request) -> Reply + Send + Sync + 'static) -> u8 {
    match streams::listen(port) {
        Ok(listener) => say::error(server::serve(&listener, answer)),
        Err(error) => say::error(format_args!("listen tcp :{port}: {}", crate::errors::in_c_words(&error))),
    }
    1
}
