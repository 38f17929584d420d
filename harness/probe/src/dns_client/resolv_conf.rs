//! `/etc/resolv.conf`: who is asked, and which names are tried for a name that is not complete (resolv.conf(5)).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// What resolv.conf says, with its defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvConf {
    /// At most three, as in every C library.
    pub servers: Vec<SocketAddr>,
    pub search: Vec<String>,
    /// A name with at least so many dots is first tried as it is.
    pub ndots: usize,
    /// For one answer.
    pub timeout: Duration,
    /// Rounds over all servers.
    pub attempts: u32,
}

impl Default for ResolvConf {
    fn default() -> Self {
        Self { servers: Vec::new(), search: Vec::new(), ndots: 1, timeout: Duration::from_secs(5), attempts: 2 }
    }
}

/// One complete name to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Without the last dot.
    pub name: String,
    /// The search domain that was added.
    pub suffix: Option<String>,
}

impl ResolvConf {
    /// Reads the text; what it does not know it passes over, as C libraries do.
    pub fn parse(text: &str) -> Self {
        let mut conf = Self::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => conf.servers.extend(words.next().and_then(server)),
                Some("search") => conf.search = words.map(|word| word.trim_end_matches('.').to_owned()).collect(),
                Some("domain") => {
                    conf.search = words.take(1).map(|word| word.trim_end_matches('.').to_owned()).collect();
                }
                Some("options") => words.for_each(|option| conf.set(option)),
                _ => {}
            }
        }
        conf.servers.truncate(3);
        conf.search.retain(|domain| !domain.is_empty());
        conf
    }

    fn set(&mut self, option: &str) {
        let Some((key, value)) = option.split_once(':') else {
            return;
        };
        let Ok(value) = value.parse::<u32>() else {
            return;
        };
        match key {
            "ndots" => self.ndots = value.min(15) as usize,
            "timeout" => self.timeout = Duration::from_secs(u64::from(value.clamp(1, 30))),
            "attempts" => self.attempts = value.clamp(1, 5),
            _ => {}
        }
    }

    /// The names to try for `name`, in order.
    pub fn candidates(&self, name: &str) -> Vec<Candidate> {
        let bare = name.trim_end_matches('.');
        let as_it_is = Candidate { name: bare.to_owned(), suffix: None };
        if name.ends_with('.') {
            return vec![as_it_is];
        }
        let with = |suffix: &String| Candidate { name: format!("{bare}.{suffix}"), suffix: Some(suffix.clone()) };
        let mut names: Vec<_> = self.search.iter().map(with).collect();
        let first = bare.matches('.').count() >= self.ndots;
        names.insert(if first { 0 } else { names.len() }, as_it_is);
        names
    }
}

fn server(word: &str) -> Option<SocketAddr> {
    // An address with a zone, `fe80::1%eth0`, is read by SocketAddr only when the zone is a number.
    word.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53)).or_else(|_| format!("[{word}]:53").parse()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "# a pod's\nsearch production.svc.cluster.local svc.cluster.local. cluster.local\n\
                       nameserver 10.152.183.10 ; dns\noptions ndots:5 timeout:1 edns0\n";

    fn names(conf: &ResolvConf, name: &str) -> Vec<String> {
        conf.candidates(name).into_iter().map(|candidate| candidate.name).collect()
    }

    #[test]
    fn a_pods_file_is_read() {
        let conf = ResolvConf::parse(POD);
        assert_eq!(conf.servers, [SocketAddr::from(([10, 152, 183, 10], 53))]);
        assert_eq!(conf.search, ["production.svc.cluster.local", "svc.cluster.local", "cluster.local"]);
        assert_eq!((conf.ndots, conf.timeout, conf.attempts), (5, Duration::from_secs(1), 2));
    }

    #[test]
    fn ndots_decides_what_is_tried_first() {
        let conf = ResolvConf::parse(POD);
        assert_eq!(names(&conf, "backend")[0], "backend.production.svc.cluster.local");
        assert_eq!(names(&conf, "backend").last().map(String::as_str), Some("backend"));
        assert_eq!(names(&conf, "a.b.c.d.e.f")[0], "a.b.c.d.e.f");
        assert_eq!(names(&conf, "backend."), ["backend"]);
        assert_eq!(conf.candidates("backend")[1].suffix.as_deref(), Some("svc.cluster.local"));
    }

    #[test]
    fn an_empty_file_has_the_documented_defaults() {
        assert_eq!(ResolvConf::parse("\n"), ResolvConf::default());
        assert_eq!(
            ResolvConf::parse("nameserver fd00::a\n").servers,
            [SocketAddr::from(([0xfd00, 0, 0, 0, 0, 0, 0, 10], 53))]
        );
    }
}
