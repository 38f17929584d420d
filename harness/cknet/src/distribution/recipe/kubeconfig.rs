//! Owns the one change to a kubeconfig that a distribution wrote: the address of the server.

use std::net::SocketAddr;

/// The same kubeconfig for clients that reach the API server at `reach`; nothing when it names no server.
///
/// Certificates stay as they are: every recipe sees to it that the API server's is good for `127.0.0.1`.
pub fn point_at(kubeconfig: &str, reach: SocketAddr) -> Option<String> {
    let mut found = false;
    let lines = kubeconfig.lines().map(|line| match line.split_once("server:") {
        Some((before, after)) if is_key(before) && after.trim().starts_with("https://") => {
            found = true;
            format!("{before}server: https://{reach}\n")
        }
        _ => format!("{line}\n"),
    });
    let text: String = lines.collect();
    found.then_some(text)
}

/// Blanks, or the dash of a list.
fn is_key(before: &str) -> bool {
    before.chars().all(|c| c == ' ' || c == '-')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_the_address_of_the_server_changes() {
        let reach = "127.0.0.1:40123".parse().unwrap();
        let text = "clusters:\n- cluster:\n    certificate-authority-data: c2VydmVyOg==\n    server: https://10.0.0.1:6443\n  name: k8s\n";
        let expected = text.replace("10.0.0.1:6443", "127.0.0.1:40123");
        assert_eq!(point_at(text, reach).unwrap(), expected);
        assert_eq!(point_at("kind: Config\nclusters: []\n", reach), None);
    }
}
