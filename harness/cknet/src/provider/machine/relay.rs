//! The hidden command line `cknet relay PORT`: standard input and output are a connection to a TCP port of this
//! machine's loopback, for those who have a shell there and nothing else.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::process::ExitCode;

pub fn main(arguments: &[String]) -> ExitCode {
    let port = match arguments {
        [port] => port.parse::<u16>().ok(),
        _ => None,
    };
    let Some(port) = port else { return complain(2, "usage: relay PORT") };
    match TcpStream::connect((Ipv4Addr::LOCALHOST, port)).and_then(carry) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(1, &format!("port {port}: {error}")),
    }
}

fn carry(mut connection: TcpStream) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let mut there = connection.try_clone()?;
    std::thread::Builder::new().spawn(move || {
        // The end of either side ends this way; the other one is seen below.
        let _ = copy(&mut io::stdin().lock(), &mut there);
        let _ = there.shutdown(Shutdown::Write);
    })?;
    copy(&mut connection, &mut io::stdout().lock())
}

/// Passes on what there is as soon as it is there.
fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => {
                to.write_all(buffer.get(..read).unwrap_or_default())?;
                to.flush()?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn complain(code: u8, problem: &str) -> ExitCode {
    // Nowhere to complain about a closed standard error.
    let _ = writeln!(io::stderr(), "error: {problem}");
    ExitCode::from(code)
}
