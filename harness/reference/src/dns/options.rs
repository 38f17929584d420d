//! The options of cluster DNS on its command line.

use std::net::{Ipv4Addr, SocketAddr};

/// What can be set about cluster DNS.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Options {
    /// The domain of the cluster, in small letters and without a dot at the end.
    pub(super) domain: String,
    pub(super) listen: SocketAddr,
    pub(super) health: SocketAddr,
    pub(super) ready: SocketAddr,
    /// Whether each query is logged.
    pub(super) log: bool,
}

impl Default for Options {
    fn default() -> Self {
        let port = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        Self { domain: "cluster.local".to_owned(), listen: port(53), health: port(8080), ready: port(8181), log: false }
    }
}

/// A word on the command line that is not understood.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(super) enum OptionError {
    #[error("unknown option `{0}` of cluster DNS")]
    Unknown(String),
    #[error("option `{0}` of cluster DNS needs a value")]
    Missing(String),
    #[error("`{value}` for option `{option}` of cluster DNS is not an address with a port")]
    Address { option: String, value: String },
}

impl Options {
    pub(super) fn parse(args: impl IntoIterator<Item = String>) -> Result<Self, OptionError> {
        let mut options = Self::default();
        let mut args = args.into_iter();
        while let Some(option) = args.next() {
            if option == "--log" {
                options.log = true;
                continue;
            }
            let value = args.next().ok_or_else(|| OptionError::Missing(option.clone()));
            match option.as_str() {
                "--domain" => options.domain = value?.trim_matches('.').to_lowercase(),
                "--listen" => options.listen = address(&option, value?)?,
                "--health" => options.health = address(&option, value?)?,
                "--ready" => options.ready = address(&option, value?)?,
                // The file that CoreDNS would read: nothing in it is needed here.
                "-conf" => drop(value?),
                _ => return Err(OptionError::Unknown(option)),
            }
        }
        Ok(options)
    }
}

fn address(option: &str, value: String) -> Result<SocketAddr, OptionError> {
    value.parse().map_err(|_| OptionError::Address { option: option.to_owned(), value })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn parsed(line: &str) -> Result<Options, OptionError> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_are_read() {
        let options =
            parsed("-conf /etc/coredns/Corefile --domain Example.Org. --listen 127.0.0.1:5353 --log").unwrap();
        assert_eq!(options.domain, "example.org");
        assert_eq!(options.listen.to_string(), "127.0.0.1:5353");
        assert!(options.log);
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(parsed("--zone x"), Err(OptionError::Unknown("--zone".into())));
        assert_eq!(parsed("--domain"), Err(OptionError::Missing("--domain".into())));
        let error = parsed("--listen 53").unwrap_err().to_string();
        assert_eq!(error, "`53` for option `--listen` of cluster DNS is not an address with a port");
    }
}
