//! `httpd -f -p PORT -h FOLDER`: serves the files of a folder. It stays in the foreground also without `-f` where it
//! is what its container runs.

use std::path::PathBuf;

use super::{fail, options_of};
use crate::http::server;
use crate::options::{Known, flag, value};
use crate::{say, streams, web};

const OPTIONS: &[Known] =
    &[flag('f', ""), flag('v', ""), flag('i', ""), value('p', ""), value('h', ""), value('c', ""), value('u', "")];

pub fn run(arguments: &[String]) -> u8 {
    let given = match options_of("httpd", arguments, OPTIONS) {
        Ok(given) => given,
        Err(code) => return code,
    };
    let port = given.value("p").unwrap_or("80");
    // `-p ADDRESS:PORT` too.
    let Ok(number) = port.rsplit(':').next().unwrap_or_default().parse() else {
        return fail("httpd", format!("bad port '{port}'"));
    };
    let folder = PathBuf::from(given.value("h").unwrap_or("."));
    let listener = match streams::listen(number) {
        Ok(listener) => listener,
        Err(error) => return fail("httpd", format!("bind: {}", crate::errors::in_c_words(&error))),
    };
    let verbose = given.has("v");
    let error = server::serve(&listener, move |request| {
        let reply = web::file(&folder, &request.path);
        if verbose {
            say::error(format_args!("{}:response:{}", request.peer, reply.status));
        }
        reply
    });
    fail("httpd", error)
}
