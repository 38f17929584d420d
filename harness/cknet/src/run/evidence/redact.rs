//! What may not stand in a file that is uploaded somewhere: keys, tokens, passwords.
//!
//! Nothing that is gathered is meant to hold any. Logs and command lines do all the same, so that everything that looks
//! like one is taken out; a word too many is no loss.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::{Captures, Regex};

/// What stands in the place of a secret.
const HIDDEN: &str = "***";

/// Shorter words are none that anybody would guess at.
const SHORTEST: usize = 8;

/// The forms of secrets, each with what is put in its place. `$1` stays.
static FORMS: LazyLock<Vec<(Regex, &'static str)>> = LazyLock::new(|| {
    let forms = [
        // A private key, also one that was cut off.
        (r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\z)", HIDDEN),
        // A JSON web token: two or three parts of base64, the first of which begins with `{"`.
        (r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(\.[A-Za-z0-9_-]*)?", HIDDEN),
        // A user in an address, with a password as a rule: a proxy's.
        (r#"(://)[^\s/"'<>]+@"#, "${1}***@"),
        (r"(?i)\b(bearer|basic) +[A-Za-z0-9._~+/=-]{8,}", "${1} ***"),
        (r"(?i)(--?[a-z-]*(?:token|password|passwd|secret)[ =])\S+", "${1}***"),
        // Tokens by which nodes join: K3s' and RKE2's, kubeadm's.
        (r"\bK10[0-9a-f]{16,}::\S+", HIDDEN),
        (r"\b[a-z0-9]{6}\.[a-z0-9]{16}\b", HIDDEN),
        (r"(--certificate-key[ =])\S+", "${1}***"),
        // Those of Canonical Kubernetes, base64 of a JSON object, and of MicroK8s, behind an address.
        (r"\beyJ[A-Za-z0-9+/=_-]{24,}", HIDDEN),
        (r"(:25000/)[0-9a-f]{16,}(/[0-9a-f]+)?", "${1}***"),
    ];
    forms.into_iter().filter_map(|(form, instead)| Some((Regex::new(form).ok()?, instead))).collect()
});

/// A field whose name says that its value is secret.
static FIELD: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let name = r"[a-z0-9_.-]*(?:token|password|passwd|secret|client-key-data|private-?key|api-?key)";
    // A journal quotes what is quoted.
    Regex::new(&format!(r#"(?i)(\\?["']?{name}\\?["']?\s*[:=]\s*\\?["']?)([^\s"',}}\]\\]+)"#)).ok()
});

/// Takes secrets out of texts.
#[derive(Debug, Default)]
pub struct Redactor {
    /// Words that are known to be secret.
    known: Vec<String>,
}

impl Redactor {
    /// One that knows what is secret in a kubeconfig, so that it is found wherever it stands.
    pub fn knowing(kubeconfig: &str) -> Self {
        let secret = |line: &str| {
            let (name, value) = line.trim().trim_start_matches("- ").split_once(':')?;
            let value = value.trim().trim_matches(['"', '\'', ',']);
            let is_secret = matches!(name.trim_matches('"'), "token" | "password" | "client-key-data");
            (is_secret && value.len() >= SHORTEST).then(|| value.to_string())
        };
        Self { known: kubeconfig.lines().filter_map(secret).collect() }
    }

    /// The text without secrets.
    pub fn redact(&self, text: &str) -> String {
        let mut text = Cow::Borrowed(text);
        for known in &self.known {
            if text.contains(known.as_str()) {
                text = Cow::Owned(text.replace(known.as_str(), HIDDEN));
            }
        }
        for (form, instead) in FORMS.iter() {
            if form.is_match(&text) {
                text = Cow::Owned(form.replace_all(&text, *instead).into_owned());
            }
        }
        match FIELD.as_ref() {
            Some(field) => field.replace_all(&text, hidden_value).into_owned(),
            None => text.into_owned(),
        }
    }
}

/// A switch is no secret, whatever its name: `automountServiceAccountToken: false`.
fn hidden_value(field: &Captures<'_>) -> String {
    let (name, value) = (&field[1], &field[2]);
    let harmless = matches!(value, "true" | "false" | "null" | "{}" | "[]" | "{" | "[" | HIDDEN);
    if harmless { field[0].to_string() } else { format!("{name}{HIDDEN}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::key("a\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nb", "a\n***\nb")]
    #[case::half_a_key("a\n-----BEGIN PRIVATE KEY-----\nMIIE", "a\n***")]
    #[case::web_token("sent eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrIn0.c2ln to", "sent *** to")]
    #[case::proxy("HTTPS_PROXY=http://ann:s3cr%40t@10.0.0.1:3128", "HTTPS_PROXY=http://***@10.0.0.1:3128")]
    #[case::header("Authorization: Bearer abcdefgh.ijk", "Authorization: Bearer ***")]
    #[case::argument("k3s agent --token mine --server x", "k3s agent --token *** --server x")]
    #[case::join("kubeadm join 1.2.3.4 abcdef.0123456789abcdef", "kubeadm join 1.2.3.4 ***")]
    #[case::kubeadm_key("--certificate-key 0123abcd x", "--certificate-key *** x")]
    #[case::snap("k8s join-cluster eyJ0b2tlbiI6IjEyMyIsImFkZHJlc3NlcyI6WyIxIl19Cg==", "k8s join-cluster ***")]
    #[case::microk8s("microk8s join 1.2.3.4:25000/0123456789abcdef0123/0123ab", "microk8s join 1.2.3.4:25000/***")]
    #[case::quoted(r#"msg="{\"token\":\"abc\"}""#, r#"msg="{\"token\":\"***\"}""#)]
    #[case::field("client-key-data: LS0t", "client-key-data: ***")]
    #[case::json(r#"{"token":"abc","x":1}"#, r#"{"token":"***","x":1}"#)]
    #[case::variable("DB_PASSWORD=abc next", "DB_PASSWORD=*** next")]
    #[case::switch("automountServiceAccountToken: false", "automountServiceAccountToken: false")]
    #[case::image("image: reg.example/a/b@sha256:0123", "image: reg.example/a/b@sha256:0123")]
    #[case::route("10.1.0.0/26 via 10.1.0.1 dev vxlan.calico", "10.1.0.0/26 via 10.1.0.1 dev vxlan.calico")]
    fn secrets_are_taken_out_and_nothing_else(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(Redactor::default().redact(text), expected);
    }

    #[test]
    fn what_a_kubeconfig_holds_is_found_anywhere() {
        let redactor = Redactor::knowing("users:\n- name: a\n  user:\n    token: 0123456789\n");
        assert_eq!(redactor.redact("cknet node 0123456789"), "cknet node ***");
    }

    #[test]
    fn every_form_is_one() {
        assert_eq!(FORMS.len(), 10);
        assert!(FIELD.is_some());
    }
}
