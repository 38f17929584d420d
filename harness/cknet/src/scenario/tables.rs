//! Owns the macros that make, from one table of fields or words, a type, its reader and its
//! schema, so that the three cannot differ. Must not know how a value is read.

/// A struct that is a mapping in the file. A field is `name: Type`, `name as "key": Type` where
/// the key is not the name in camelCase, or `name: Type = value when the key is absent`.
macro_rules! record {
    (
        $noun:literal;
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[$fmeta:meta])* pub $field:ident $(as $key:literal)? : $type:ty $(= $default:expr)? ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, schemars::JsonSchema)]
        #[schemars(rename_all = "camelCase", deny_unknown_fields)]
        pub struct $name {
            $( $(#[$fmeta])* $(#[schemars(rename = $key)])? pub $field: $type ),*
        }
        impl $crate::scenario::read::Read for $name {
            fn read(
                node: &$crate::scenario::tree::Node,
                r: &mut $crate::scenario::read::Reading<'_>,
            ) -> Option<Self> {
                let mut keys = $crate::scenario::read::Keys::of(node, $noun, r)?;
                $( let $field = record!(@read keys, r, record!(@key $field $(as $key)?), $type $(= $default)?); )*
                keys.done(&[], r);
                Some(Self { $( $field: $field? ),* })
            }
        }
        #[cfg(test)]
        impl $crate::scenario::read::Record for $name {
            fn keys() -> Vec<(String, bool)> {
                vec![$( (record!(@key $field $(as $key)?).to_owned(), record!(@needed $type $(= $default)?)) ),*]
            }
        }
    };
    (@read $keys:ident, $r:ident, $key:expr, $type:ty) => { $keys.field::<$type>($key, $r) };
    (@read $keys:ident, $r:ident, $key:expr, $type:ty = $default:expr) => {
        $keys.field_or::<$type>($key, || $default, $r)
    };
    (@needed $type:ty) => { <$type as $crate::scenario::read::Read>::absent().is_none() };
    (@needed $type:ty = $default:expr) => { false };
    (@key $field:ident as $key:literal) => { $key };
    (@key $field:ident) => {{
        static KEY: std::sync::LazyLock<String> =
            std::sync::LazyLock::new(|| $crate::scenario::read::camel(stringify!($field)));
        KEY.as_str()
    }};
}

/// An enum that is a mapping with one key, the variant in camelCase: `- firewall: {...}`.
macro_rules! choice {
    (
        $noun:literal, $kinds:literal;
        $(#[$meta:meta])*
        pub enum $name:ident { $( $(#[$vmeta:meta])* $variant:ident($type:ty) as $key:literal ),* $(,)? }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, schemars::JsonSchema)]
        #[schemars(rename_all = "camelCase", deny_unknown_fields)]
        pub enum $name { $( $(#[$vmeta])* #[schemars(rename = $key)] $variant($type) ),* }
        impl $name {
            /// The word that chooses each kind.
            pub const KINDS: &'static [&'static str] = &[$($key),*];

            /// The word that chose this kind.
            #[must_use]
            pub fn kind(&self) -> &'static str {
                match self { $( Self::$variant(_) => $key ),* }
            }

            pub(in crate::scenario) fn read_kind(
                key: &str,
                span: $crate::scenario::source::Span,
                node: &$crate::scenario::tree::Node,
                r: &mut $crate::scenario::read::Reading<'_>,
            ) -> Option<Self> {
                match key {
                    $( $key => <$type as $crate::scenario::read::Read>::read(node, r).map(Self::$variant), )*
                    _ => {
                        $crate::scenario::read::not_a_word(span, key, $kinds, Self::KINDS, r);
                        None
                    }
                }
            }
        }
        impl $crate::scenario::read::Read for $name {
            fn read(
                node: &$crate::scenario::tree::Node,
                r: &mut $crate::scenario::read::Reading<'_>,
            ) -> Option<Self> {
                let (key, span, value) = $crate::scenario::read::only_key(node, $noun, Self::KINDS, r)?;
                Self::read_kind(key, span, value, r)
            }
        }
    };
}

/// An enum that is one of a few words.
macro_rules! words {
    (
        $what:literal;
        $(#[$meta:meta])*
        pub enum $name:ident { $( $(#[$vmeta:meta])* $variant:ident = $word:literal ),* $(,)? }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, schemars::JsonSchema)]
        pub enum $name { $( $(#[$vmeta])* #[serde(rename = $word)] $variant ),* }
        impl $name {
            /// All words, in the order of the documentation.
            pub const WORDS: &'static [&'static str] = &[$($word),*];

            /// The word as it is written in a file.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $( Self::$variant => $word ),* }
            }

            /// The meaning of a word; `None` if it is none of [`Self::WORDS`].
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $( $word => Some(Self::$variant), )* _ => None }
            }

            pub(in crate::scenario) fn read_word(
                word: &str,
                span: $crate::scenario::source::Span,
                r: &mut $crate::scenario::read::Reading<'_>,
            ) -> Option<Self> {
                let known = Self::from_word(word);
                if known.is_none() {
                    $crate::scenario::read::not_a_word(span, word, $what, Self::WORDS, r);
                }
                known
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.word())
            }
        }
        impl $crate::scenario::read::Read for $name {
            fn read(
                node: &$crate::scenario::tree::Node,
                r: &mut $crate::scenario::read::Reading<'_>,
            ) -> Option<Self> {
                let word = r.fixed_text(node, $what)?;
                Self::read_word(&word, node.span, r)
            }
        }
    };
}

/// Reader, parser and schema of a type that is written as one word.
macro_rules! text {
    ($name:ty, $schema_name:literal, $wanted:literal, pattern $pattern:expr, parse $parse:expr) => {
        impl $crate::scenario::read::FromText for $name {
            const WANTED: &'static str = $wanted;
            fn from_text(text: &str) -> Result<Self, String> {
                $parse(text)
            }
        }
        impl $crate::scenario::read::Read for $name {
            fn read(
                node: &$crate::scenario::tree::Node,
                r: &mut $crate::scenario::read::Reading<'_>,
            ) -> Option<Self> {
                $crate::scenario::read::read_text(node, r)
            }
        }
        impl std::str::FromStr for $name {
            type Err = $crate::scenario::model::BadText;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                <Self as $crate::scenario::read::FromText>::from_text(text)
                    .map_err($crate::scenario::model::BadText)
            }
        }
        text!(@schema $name, $schema_name, $wanted, $pattern);
    };
    (@schema $name:ty, $schema_name:expr, $wanted:expr, $pattern:expr) => {
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $schema_name.into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string",
                    "description": format!("Wants {}", $wanted),
                    "pattern": $pattern,
                })
            }
        }
    };
}

pub(super) use {choice, record, text, words};
