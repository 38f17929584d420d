//! URLs as people type them.

/// `http://HOST[:PORT][/PATH]`; the scheme may be left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub scheme: String,
    pub host: String,
    pub port: u16,
    /// Host and port as they were typed.
    pub authority: String,
    /// With the query, starting with a slash.
    pub path: String,
}

/// Reads a URL; `None` when it is none.
pub fn parse(text: &str) -> Option<Url> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    let scheme = scheme.to_ascii_lowercase();
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let path = path.split('#').next().unwrap_or_default();
    let path = if path.starts_with('/') { path.to_string() } else { format!("/{path}") };
    let authority = authority.rsplit('@').next().unwrap_or_default();
    let usual = match scheme.as_str() {
        "https" => 443,
        "telnet" => 23,
        _ => 80,
    };
    let bare = authority.trim_matches(['[', ']']);
    let (host, port) = match crate::names::split(authority) {
        Some((host, port)) => (host, port),
        None if !bare.contains(':') || authority.starts_with('[') => (bare, usual),
        None => return None,
    };
    if host.is_empty() || host.contains(char::is_whitespace) {
        return None;
    }
    Some(Url { scheme, host: host.into(), port, authority: authority.into(), path })
}

/// Where a redirect from `from` to `location` leads.
pub fn joined(from: &Url, location: &str) -> Option<Url> {
    match location.starts_with('/') {
        true => Some(Url { path: location.into(), ..from.clone() }),
        false => parse(location),
    }
}

/// The names and values of a query.
pub fn query(text: &str) -> Vec<(String, String)> {
    form_urlencoded::parse(text.as_bytes()).into_owned().collect()
}

/// A path with its `%XX` decoded.
pub fn decoded(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut text = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        match (bytes[at], hex.and_then(|pair| u8::from_str_radix(pair, 16).ok())) {
            (b'%', Some(byte)) => {
                text.push(byte);
                at += 3;
            }
            (byte, _) => {
                text.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("http://web", "web", 80, "/")]
    #[case("http://web:8080/a?b=c#d", "web", 8080, "/a?b=c")]
    #[case("web.default/x", "web.default", 80, "/x")]
    #[case("10.1.0.5:81", "10.1.0.5", 81, "/")]
    #[case("http://[fd00::1]:80/", "fd00::1", 80, "/")]
    #[case("http://user@web?x", "web", 80, "/?x")]
    #[case("telnet://db:6379", "db", 6379, "/")]
    fn urls(#[case] text: &str, #[case] host: &str, #[case] port: u16, #[case] path: &str) {
        let url = parse(text).unwrap();
        assert_eq!((url.host.as_str(), url.port, url.path.as_str()), (host, port, path));
    }

    #[test]
    fn no_urls() {
        assert_eq!((parse("http://"), parse("http://a b"), parse("http://web:port")), (None, None, None));
    }
}
