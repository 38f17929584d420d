//! A server that answers requests one after the other on each connection.

use std::io::{self, BufReader};
use std::net::{TcpListener, TcpStream};

use super::{Reply, Request};
use crate::streams::{IDLE, accept_all, plain};

/// Answers requests until accepting fails.
pub fn serve(listener: &TcpListener, answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> io::Error {
    accept_all(listener, move |stream| {
        // A peer that goes away or speaks nonsense concerns nobody else.
        let _ = converse(&stream, &answer);
    })
}

fn converse(stream: &TcpStream, answer: &impl Fn(&Request) -> Reply) -> io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(IDLE))?;
    stream.set_nodelay(true)?;
    let peer = plain(stream.peer_addr()?);
    let mut reader = BufReader::new(stream);
    while let Some(request) = Request::read(&mut reader, peer)? {
        answer(&request).write(&request, &mut &*stream)?;
        if !request.keeps {
            break;
        }
    }
    Ok(())
}
