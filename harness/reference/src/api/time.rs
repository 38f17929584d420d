//! Times as the API writes them.

use jiff::Timestamp;

/// RFC 3339 in whole seconds, as `metav1.Time`.
pub fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The present, in whole seconds.
pub fn now() -> String {
    seconds(Timestamp::now())
}
