//! What the document itself says one should do about a cause.

use super::Overlay;
use super::cause::{Cause, Kind};

/// A passage of the document under test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    pub text: String,
    /// `FILE.md#anchor`.
    pub docs: String,
}

/// The document whose advice is known here.
const DOCUMENT: &str = "canonical-kubernetes-networking.md";

const OPEN_VXLAN: (&str, &str) =
    ("firewall-cmd --permanent --add-port=4789/udp; firewall-cmd --reload", "-correct-open-udp-4789");
const PORTS: &str = "required-ports";
const CHECK_AGENT: (&str, &str) =
    ("k8s kubectl get pods -n kube-system -l k8s-app=calico-node", "issue-pods-cannot-communicate");
const CHECK_LOGS: (&str, &str) = (
    "If routes/interfaces missing, check Calico logs: k8s kubectl logs -n kube-system calico-node-abc",
    "issue-pods-cannot-communicate",
);
const ENSURE_FELIX: (&str, &str) =
    ("Ensure Calico felix is running and processing policies.", "issue-networkpolicy-not-working");
const CHECK_POLICY: (&str, &str) = ("k8s kubectl get networkpolicy", "issue-networkpolicy-not-working");
const ALLOW: (&str, &str) = ("unless explicitly allowed by other NetworkPolicy", "pattern-3-networkpolicy-enforcement");

/// The ports of the document's table, by what a rule about them says, and the line there.
const REQUIRED: [(&str, &str); 7] = [
    ("tcp dport 179", "BGP mode: TCP 179"),
    ("tcp dport 5473", "Typha (Calico component): TCP 5473"),
    ("tcp dport 10250", "10250: Kubelet API (TCP)"),
    ("tcp dport 6443", "6443: Kubernetes API server (TCP)"),
    ("tcp dport 2379", "2379-2380: etcd client/peer (TCP)"),
    ("tcp dport 30000-32767", "30000-32767: NodePort services (TCP/UDP)"),
    ("udp dport 30000-32767", "30000-32767: NodePort services (TCP/UDP)"),
];

/// What the document advises, if it says something about this cause.
pub fn advice(cause: &Cause, overlay: &Overlay) -> Option<Advice> {
    let (text, anchor) = match cause.kind {
        Kind::Rule => of_rule(&cause.text, overlay)?,
        Kind::Policy => ALLOW,
        Kind::DeviceMissing | Kind::DeviceDown if !cause.text.contains(&overlay.device) => return None,
        Kind::DeviceMissing | Kind::DeviceDown | Kind::Route | Kind::Forwarding => CHECK_LOGS,
        Kind::Agent => ENSURE_FELIX,
        Kind::PolicyMissing => CHECK_POLICY,
        Kind::NoPod => CHECK_AGENT,
        Kind::Mtu | Kind::Tunnel | Kind::NoServer | Kind::Told => return None,
    };
    Some(Advice { text: text.into(), docs: format!("{DOCUMENT}#{anchor}") })
}

fn of_rule(text: &str, overlay: &Overlay) -> Option<(&'static str, &'static str)> {
    if text.contains(&format!("udp dport {}", overlay.port)) || text.contains("VXLAN") {
        return Some(OPEN_VXLAN);
    }
    REQUIRED.iter().find(|(rule, _)| text.contains(rule)).map(|(_, line)| (*line, PORTS))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The document with its marks of emphasis and line ends taken away.
    fn document() -> String {
        let text = include_str!("../../../../fixtures/documents/canonical-kubernetes-networking.md");
        text.replace("**", "").replace('\n', " ")
    }

    #[test]
    fn the_document_says_what_is_said_to_be_its_advice() {
        let document = document();
        let single = [CHECK_AGENT, ENSURE_FELIX, CHECK_POLICY, ALLOW].map(|(text, _)| text);
        for text in single.into_iter().chain(REQUIRED.map(|(_, line)| line)) {
            assert!(document.contains(text), "`{text}` is not in the document");
        }
        for text in [OPEN_VXLAN.0, CHECK_LOGS.0] {
            for part in text.split("; ").flat_map(|part| part.split(": ")) {
                assert!(document.contains(part), "`{part}` is not in the document");
            }
        }
    }

    #[test]
    fn a_rule_about_a_port_of_the_table_is_advised_on() {
        let overlay = Overlay {
            device: "vxlan.calico".into(),
            port: 4789,
            workload_prefix: "cali".into(),
            agent: "calico-node".into(),
        };
        let rule = |text: &str| {
            let cause = Cause { kind: Kind::Rule, node: "w1".into(), text: text.into(), drop: None };
            advice(&cause, &overlay).map(|advice| advice.docs)
        };
        let document = |anchor: &str| Some(format!("{DOCUMENT}#{anchor}"));
        assert_eq!(rule("a rule ends it: udp dport 4789"), document("-correct-open-udp-4789"));
        assert_eq!(rule("a rule ends it: tcp dport 179"), document("required-ports"));
        assert_eq!(rule("a rule ends it: tcp dport 8080"), None);
    }
}
