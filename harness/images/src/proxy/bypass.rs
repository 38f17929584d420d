//! `NO_PROXY` in the two dialects that clients speak: which hosts are asked directly. Pure.
//!
//! No standard says what the variable means, so each client reads it by rules of its own, and one list may mean two
//! things.

use std::net::IpAddr;

use ipnet::IpNet;

/// Whose rules decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Go's (`golang.org/x/net/http/httpproxy`), and so those of containerd, kubelets and everything else in Kubernetes.
    Go,
    /// curl's, from 7.86 on: before, it knew no blocks of addresses.
    Curl,
    /// Those of busybox's `wget`, which does not read the variable.
    Busybox,
}

impl Dialect {
    /// Whether `host` at `port` is asked directly although there is a proxy.
    pub fn is_direct(self, no_proxy: &str, host: &str, port: u16) -> bool {
        let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
        match self {
            Self::Go => go(no_proxy, &host, port),
            Self::Curl => curl(no_proxy, &host),
            Self::Busybox => false,
        }
    }
}

/// The machine itself is never asked by a proxy; an entry is an address, a block, or a domain that means what is below
/// it too, unless it begins with a dot: then only what is below it. All but blocks may have a port.
fn go(no_proxy: &str, host: &str, port: u16) -> bool {
    let address: Option<IpAddr> = host.parse().ok();
    if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        return true;
    }
    let entries = no_proxy.split(',').map(|entry| entry.trim().to_ascii_lowercase());
    entries.filter(|entry| !entry.is_empty()).any(|entry| {
        if entry == "*" {
            return true;
        }
        if let Ok(block) = entry.parse::<IpNet>() {
            return address.is_some_and(|address| block.contains(&address));
        }
        let (name, only) = match crate::names::split(&entry) {
            Some((name, only)) => (name, Some(only)),
            None => (entry.trim_matches(['[', ']']), None),
        };
        if only.is_some_and(|only| only != port) {
            return false;
        }
        match (name.parse::<IpAddr>(), address) {
            (Ok(wanted), address) => address == Some(wanted),
            (Err(_), _) => go_domain(name, host),
        }
    })
}

fn go_domain(name: &str, host: &str) -> bool {
    let name = name.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(name);
    match name.strip_prefix('.') {
        Some("") => false,
        Some(_) => host.ends_with(name),
        None => !name.is_empty() && is_domain_or_below(name, host),
    }
}

/// Entries are parted by commas or blanks; a domain means what is below it too, with or without a dot in front of it;
/// there are no ports, and the machine itself is nothing special. Only a list that is a single `*` means everything.
fn curl(no_proxy: &str, host: &str) -> bool {
    if no_proxy == "*" {
        return true;
    }
    let entries = no_proxy.split([',', ' ', '\t']).filter(|entry| !entry.is_empty()).map(str::to_ascii_lowercase);
    let mut entries = entries;
    match host.parse::<IpAddr>() {
        Ok(address) => entries.any(|entry| match entry.parse::<IpNet>() {
            Ok(block) => block.contains(&address),
            Err(_) => entry.trim_matches(['[', ']']).parse() == Ok(address),
        }),
        Err(_) => {
            let host = host.strip_suffix('.').unwrap_or(host);
            entries.any(|entry| {
                let name = entry.strip_prefix('.').unwrap_or(&entry);
                let name = name.strip_suffix('.').unwrap_or(name);
                !name.is_empty() && is_domain_or_below(name, host)
            })
        }
    }
}

fn is_domain_or_below(domain: &str, host: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// What both say, then what Go says, then what curl says.
    #[rstest]
    #[case::nothing("", "10.1.0.5", false, false)]
    #[case::address("10.1.0.5", "10.1.0.5", true, true)]
    #[case::other_address("10.1.0.5", "10.1.0.50", false, false)]
    #[case::block("10.1.0.0/16", "10.1.255.5", true, true)]
    #[case::other_block("10.1.0.0/16", "10.2.0.5", false, false)]
    #[case::block_and_name("10.1.0.0/16", "web.svc", false, false)]
    #[case::beginning_of_an_address("10.1.", "10.1.0.5", false, false)]
    #[case::all("*", "web", true, true)]
    #[case::all_among_others("a, *", "web", true, false)]
    #[case::domain("cluster.local", "cluster.local", true, true)]
    #[case::below_domain("cluster.local", "web.default.svc.cluster.local", true, true)]
    #[case::end_of_a_label("luster.local", "web.cluster.local", false, false)]
    #[case::dotted(".svc", "web.default.svc", true, true)]
    #[case::dotted_itself(".example.org", "example.org", false, true)]
    #[case::star_dotted("*.example.org", "a.example.org", true, false)]
    #[case::star_dotted_itself("*.example.org", "example.org", false, false)]
    #[case::capitals("EXAMPLE.org", "a.Example.ORG", true, true)]
    #[case::last_dot("example.org", "example.org.", false, true)]
    #[case::port("10.1.0.5:8080", "10.1.0.5", true, false)]
    #[case::other_port("10.1.0.5:80", "10.1.0.5", false, false)]
    #[case::port_of_name("web:8080", "a.web", true, false)]
    #[case::localhost("", "localhost", true, false)]
    #[case::loopback("", "127.0.0.9", true, false)]
    #[case::loopback6("", "[::1]", true, false)]
    #[case::blanks("10.1.0.0/16, .svc", "web.svc", true, true)]
    #[case::only_blanks("10.1.0.0/16 .svc", "web.svc", false, true)]
    #[case::v6("fd00::/8", "[fd00::5]", true, true)]
    #[case::rubbish(",., .,10.1.0.0/99,:80", "web", false, false)]
    fn who_is_asked_directly(#[case] list: &str, #[case] host: &str, #[case] in_go: bool, #[case] in_curl: bool) {
        assert_eq!(Dialect::Go.is_direct(list, host, 8080), in_go, "Go");
        assert_eq!(Dialect::Curl.is_direct(list, host, 8080), in_curl, "curl");
        assert!(!Dialect::Busybox.is_direct(list, host, 8080), "busybox");
    }
}
