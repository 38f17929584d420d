//! Which proxy the environment names for a URL. Pure: it is told the variables.

use super::Dialect;
use crate::http::url::{self, Url};

/// The proxy by which `to` is asked; `None` when it is asked directly.
pub fn for_url(dialect: Dialect, to: &Url, variable: &dyn Fn(&str) -> Option<String>) -> Option<Url> {
    let first = |names: &[&str]| names.iter().find_map(|name| variable(name).filter(|value| !value.is_empty()));
    let proxy = first(names(dialect, &to.scheme))?;
    let no_proxy = first(match dialect {
        Dialect::Go => &["NO_PROXY", "no_proxy"],
        _ => &["no_proxy", "NO_PROXY"],
    });
    if dialect.is_direct(&no_proxy.unwrap_or_default(), &to.host, to.port) {
        return None;
    }
    at(dialect, &proxy)
}

/// The place that the text of a proxy's URL means.
fn at(dialect: Dialect, text: &str) -> Option<Url> {
    let mut proxy = url::parse(text)?;
    let authority = text.split_once("://").map_or(text, |(_, rest)| rest).split('/').next().unwrap_or_default();
    let has_port = crate::names::split(authority).is_some();
    // Without a port curl means that of old SOCKS proxies.
    if dialect == Dialect::Curl && !has_port && proxy.scheme == "http" {
        proxy.port = 1080;
    }
    Some(proxy)
}

/// The variables that name a proxy for a scheme, the one that counts first.
///
/// curl does not read `HTTP_PROXY` in capitals: a web server sets it to what a stranger sent as the header `Proxy`.
const fn names(dialect: Dialect, scheme: &str) -> &'static [&'static str] {
    match (dialect, scheme.as_bytes()) {
        (Dialect::Go, b"http") => &["HTTP_PROXY", "http_proxy"],
        (Dialect::Go, b"https") => &["HTTPS_PROXY", "https_proxy"],
        (Dialect::Curl, b"http") => &["http_proxy", "all_proxy", "ALL_PROXY"],
        (Dialect::Curl, b"https") => &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"],
        (Dialect::Curl, _) => &["all_proxy", "ALL_PROXY"],
        (Dialect::Busybox, b"http" | b"https") => &["http_proxy"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rstest::rstest;

    fn asked(dialect: Dialect, to: &str, variables: &str) -> Option<String> {
        let known = |wanted: &str| {
            variables.split(';').find_map(|one| {
                let (name, value) = one.split_once('=')?;
                (name == wanted).then(|| value.to_string())
            })
        };
        for_url(dialect, &url::parse(to).unwrap(), &known).map(|proxy| format!("{}:{}", proxy.host, proxy.port))
    }

    #[rstest]
    #[case("http_proxy=http://p:3128", Some("p:3128"), Some("p:3128"), Some("p:3128"))]
    #[case("HTTP_PROXY=http://p:3128", Some("p:3128"), None, None)]
    #[case("HTTP_PROXY=http://a:1;http_proxy=http://b:2", Some("a:1"), Some("b:2"), Some("b:2"))]
    #[case("all_proxy=p:3128", None, Some("p:3128"), None)]
    #[case("http_proxy=http://p", Some("p:80"), Some("p:1080"), Some("p:80"))]
    #[case("https_proxy=p:3128", None, None, None)]
    #[case("http_proxy=", None, None, None)]
    #[case("http_proxy=p:1;no_proxy=web", None, None, Some("p:1"))]
    #[case("http_proxy=p:1;NO_PROXY=a;no_proxy=web", Some("p:1"), None, Some("p:1"))]
    fn the_environment_names_a_proxy(
        #[case] variables: &str,
        #[case] go: Option<&str>,
        #[case] curl: Option<&str>,
        #[case] busybox: Option<&str>,
    ) {
        let asked = |dialect| asked(dialect, "http://web/", variables);
        assert_eq!(asked(Dialect::Go).as_deref(), go);
        assert_eq!(asked(Dialect::Curl).as_deref(), curl);
        assert_eq!(asked(Dialect::Busybox).as_deref(), busybox);
    }

    #[test]
    fn another_scheme_has_another_variable() {
        let variables = "http_proxy=a:1;HTTPS_PROXY=b:2;ALL_PROXY=c:3";
        assert_eq!(asked(Dialect::Go, "https://web/", variables).as_deref(), Some("b:2"));
        assert_eq!(asked(Dialect::Curl, "https://web/", variables).as_deref(), Some("b:2"));
        assert_eq!(asked(Dialect::Curl, "telnet://web/", variables).as_deref(), Some("c:3"));
        assert_eq!(asked(Dialect::Go, "telnet://web/", variables), None);
    }
}
