//! The words of system errors, as C programs and as Go programs print them.

use std::io;

use nix::errno::Errno;

/// As `strerror` says it: `Connection refused`.
pub fn in_c_words(error: &io::Error) -> String {
    match (error.raw_os_error(), error.kind()) {
        (Some(number), _) => Errno::from_raw(number).desc().to_string(),
        (None, io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => "Connection timed out".into(),
        (None, _) => error.to_string(),
    }
}

/// As Go says it: `connect: connection refused`, or `i/o timeout` when a deadline of its own was over.
pub fn in_go_words(call: &str, error: &io::Error) -> String {
    if is_timeout(error) {
        return "i/o timeout".into();
    }
    format!("{call}: {}", in_c_words(error).to_lowercase())
}

/// Whether a deadline was over, ours or the kernel's.
pub fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_error_has_the_words_of_its_language() {
        let refused = io::Error::from(Errno::ECONNREFUSED);
        assert_eq!(in_c_words(&refused), "Connection refused");
        assert_eq!(in_go_words("connect", &refused), "connect: connection refused");
        let unreachable = io::Error::from(Errno::ENETUNREACH);
        assert_eq!(in_go_words("connect", &unreachable), "connect: network is unreachable");
        assert_eq!(in_go_words("read", &io::Error::from(io::ErrorKind::WouldBlock)), "i/o timeout");
    }
}
