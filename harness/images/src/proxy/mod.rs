//! HTTP proxies: who asks them, and a small one of our own.

mod bypass;
pub mod forward;
mod settings;

pub use bypass::Dialect;
pub use settings::for_url;

/// The proxy for `to` that the variables of this process name.
pub fn of_environment(dialect: Dialect, to: &crate::http::url::Url) -> Option<crate::http::url::Url> {
    for_url(dialect, to, &|name| std::env::var(name).ok())
}
