//! Owns `${...}`: what can be referred to, and what is known before a run.
//! Must not know where in a file a text stands.

use std::collections::BTreeMap;

use super::declared::Declared;
use super::late::{LateFact, Piece, Text};
use super::nearest::{listed, nearest};
use super::read::FromText;

/// What is known before a run: path (`cni.overlayPort`) to value.
#[derive(Debug, Default)]
pub(super) struct Facts {
    known: BTreeMap<String, Fact>,
    /// Why nodes have neither blocks of pods nor tunnel addresses, where that is so.
    pub no_tunnels: Option<&'static str>,
    /// What parts of the file could not be read: references into them are not judged.
    pub unreadable: Vec<&'static str>,
}

/// A known fact, as it stands in an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fact {
    Text(String),
    Number(u32),
    /// The kind of thing exists, this CNI has none.
    None(&'static str),
}

/// A reference that has no value.
#[derive(Debug, Default)]
pub(super) struct Wrong {
    pub written: String,
    pub why: String,
    /// It is right; only that this CNI has no such thing.
    pub absent: bool,
}

impl Wrong {
    fn new(written: &str, why: impl Into<String>) -> Self {
        Self { written: written.to_owned(), why: why.into(), absent: false }
    }
}

impl Facts {
    pub fn learn(&mut self, path: impl Into<String>, fact: Fact) {
        self.known.insert(path.into(), fact);
    }

    /// Takes what is absent here from there, so that a file can be read as a whole.
    pub fn complete(&mut self, there: &Self) {
        for (path, fact) in &mut self.known {
            if let (Fact::None(_), Some(given)) = (&*fact, there.known.get(path)) {
                *fact = given.clone();
            }
        }
        self.no_tunnels = None;
    }

    /// The number a text is, if it is nothing but one reference to a number.
    pub fn number(&self, text: &str) -> Option<u32> {
        let path = text.strip_prefix("${")?.strip_suffix('}')?;
        match self.known.get(path) {
            Some(Fact::Number(number)) => Some(*number),
            _ => None,
        }
    }

    /// The text with each known reference filled in; `$${` stands for `${` itself.
    pub fn expand(&self, text: &str, declared: &Declared<'_>, wrong: &mut Vec<Wrong>) -> Option<Text> {
        if !text.contains("${") {
            return Some(Text::literal(text));
        }
        let mut pieces = Pieces::default();
        let mut rest = text;
        let mut complete = true;
        while let Some(at) = rest.find("${") {
            if rest[..at].ends_with('$') {
                pieces.literal(&rest[..at - 1]);
                pieces.literal("${");
                rest = &rest[at + 2..];
                continue;
            }
            pieces.literal(&rest[..at]);
            let Some(length) = rest[at..].find('}') else {
                wrong.push(Wrong::new(&rest[at..], "`${` without a closing `}`"));
                return None;
            };
            let written = &rest[at..=at + length];
            match self.meaning(&written[2..written.len() - 1], declared) {
                Meaning::Fact(value) => pieces.literal(&value),
                Meaning::Late(fact) => pieces.0.push(Piece::Late(fact)),
                Meaning::Unreadable => complete = false,
                Meaning::Wrong(message) => {
                    wrong.push(Wrong::new(written, message));
                    complete = false;
                }
                Meaning::Absent(why) => {
                    wrong.push(Wrong { absent: true, ..Wrong::new(written, why) });
                    complete = false;
                }
            }
            rest = &rest[at + length + 1..];
        }
        pieces.literal(rest);
        complete.then(|| Text::of(pieces.0))
    }

    fn meaning(&self, path: &str, declared: &Declared<'_>) -> Meaning {
        match self.known.get(path) {
            Some(Fact::Text(text)) => return Meaning::Fact(text.clone()),
            Some(Fact::Number(number)) => return Meaning::Fact(number.to_string()),
            Some(Fact::None(why)) => return Meaning::Absent(why),
            None => {}
        }
        let words: Vec<&str> = path.split('.').collect();
        let absent = |meaning| self.no_tunnels.map_or(meaning, Meaning::Absent);
        let known = match words.as_slice() {
            ["workload", name, "ip"] => {
                return late(name, &declared.workloads, "workload", LateFact::WorkloadIp);
            }
            ["service", name, "clusterIp"] => {
                return late(name, &declared.services, "service", LateFact::ServiceClusterIp);
            }
            ["node", name, "tunnelAddress"] => {
                return absent(late(name, &declared.node_names(), "node", LateFact::NodeTunnelAddress));
            }
            ["node", name, "podBlock"] => {
                return absent(late(name, &declared.node_names(), "node", LateFact::NodePodBlock));
            }
            ["node", name, ..] if !declared.node_names().contains(name) => {
                return Meaning::Wrong(unknown("node", name, &declared.node_names()));
            }
            _ => self.all_paths(declared),
        };
        if self.unreadable.contains(&words[0]) {
            return Meaning::Unreadable;
        }
        Meaning::Wrong(unknown_path(path, &known))
    }

    /// Each path that means something in this file.
    fn all_paths(&self, declared: &Declared<'_>) -> Vec<String> {
        let mut paths: Vec<String> = self.known.keys().cloned().collect();
        paths.extend(declared.workloads.iter().map(|name| format!("workload.{name}.ip")));
        paths.extend(declared.services.iter().map(|name| format!("service.{name}.clusterIp")));
        for node in &declared.nodes {
            paths.push(format!("node.{}.tunnelAddress", node));
            paths.push(format!("node.{}.podBlock", node));
        }
        paths
    }
}

#[derive(Default)]
struct Pieces(Vec<Piece>);

impl Pieces {
    fn literal(&mut self, text: &str) {
        match self.0.last_mut() {
            _ if text.is_empty() => {}
            Some(Piece::Literal(last)) => last.push_str(text),
            _ => self.0.push(Piece::Literal(text.to_owned())),
        }
    }
}

enum Meaning {
    Fact(String),
    Late(LateFact),
    Unreadable,
    Absent(&'static str),
    Wrong(String),
}

fn late<N: FromText>(name: &str, known: &[&str], what: &str, fact: impl FnOnce(N) -> LateFact) -> Meaning {
    if !known.contains(&name) {
        return Meaning::Wrong(unknown(what, name, known));
    }
    // A name that is declared but badly spelt is told where it is declared.
    N::from_text(name).map_or(Meaning::Unreadable, |name| Meaning::Late(fact(name)))
}

fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("no {what} is called `{name}`; did you mean `{near}`?"),
        None if known.is_empty() => format!("no {what} is called `{name}`; this file defines none"),
        None => format!("no {what} is called `{name}`; this file defines {}", listed(known.iter().copied())),
    }
}

fn unknown_path(path: &str, known: &[String]) -> String {
    let family = path.split('.').next().unwrap_or_default();
    if let Some(near) = nearest(path, known.iter().map(String::as_str)) {
        return format!("nothing is called `{path}`; did you mean `${{{near}}}`?");
    }
    let same = || known.iter().filter(|known| known.split('.').next() == Some(family));
    if same().next().is_some() {
        let all = listed(same().map(String::as_str));
        return format!("nothing is called `{path}`; there are {all}");
    }
    let families = listed(["cni", "cluster", "node", "workload", "service"]);
    format!("nothing is called `{path}`; a reference starts with {families}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn expand(text: &str) -> Result<Text, String> {
        let mut facts = Facts::default();
        facts.learn("cni.overlayPort", Fact::Number(4789));
        facts.learn("node.w1.address", Fact::Text("192.0.2.12".to_owned()));
        let declared = Declared { workloads: vec!["server"], ..Declared::default() };
        let mut wrong = Vec::new();
        facts.expand(text, &declared, &mut wrong).ok_or_else(|| wrong.pop().unwrap_or_default().why)
    }

    #[test]
    fn known_facts_become_text_and_late_ones_stay() {
        assert_eq!(expand("${cni.overlayPort}/udp").unwrap().fixed().unwrap(), "4789/udp");
        let text = expand("http://${workload.server.ip}:80/").unwrap();
        assert_eq!(text.fixed(), None);
        assert_eq!(text.to_string(), "http://${workload.server.ip}:80/");
        let filled = text.resolve(&|_| Some("10.1.0.9".to_owned())).unwrap();
        assert_eq!(filled, "http://10.1.0.9:80/");
        let unknown = text.resolve(&|_| None).unwrap_err().to_string();
        assert_eq!(unknown, "`${workload.server.ip}` is not known yet");
    }

    #[test]
    fn two_dollars_stand_for_one() {
        assert_eq!(expand("echo $${HOME}").unwrap().fixed().unwrap(), "echo ${HOME}");
        assert_eq!(expand("echo $HOME").unwrap().fixed().unwrap(), "echo $HOME");
    }

    #[test]
    fn what_is_unknown_is_told_with_what_was_meant() {
        assert!(expand("${cni.overlayport}").unwrap_err().contains("`${cni.overlayPort}`"));
        assert!(expand("${workload.sever.ip}").unwrap_err().contains("did you mean `server`"));
        assert!(expand("${nothing.at.all}").unwrap_err().contains("a reference starts with"));
        assert!(expand("${cni.overlayPort").unwrap_err().contains("without a closing"));
    }
}
