//! Owns what a scenario expects the API not to take.
//! Must not know how the API is asked.

use super::super::json::Json;
use super::super::read::record;
use super::Object;

record! {
    "`refused`";
    /// An object that the API refuses as invalid (422). It is only tried, and never created.
    pub struct Refused {
        /// The object.
        pub object: Object,
        /// The fields about which the API complains; those and no others.
        pub fields: Vec<String>,
        /// What makes it good, as a JSON merge patch: the object with this change is taken, which shows that nothing
        /// else is the reason.
        pub unless: Json,
    }
}
