//! What a request asks for: its path, its query and the options in it.
//! Pure parsing; knows nothing of stored objects.

use super::kinds::{self, KINDS, Kind, KindIndex, Sub};
use super::status::Refusal;

/// The parameters of a query, in order and with repetitions.
#[derive(Debug, Clone, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes the text after `?`.
    pub fn parse(text: &str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// The first value of a parameter, if it is not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// All values of a parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether a parameter says yes, in any of the ways clients write it.
    pub fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| matches!(value, "true" | "1" | "True" | "TRUE" | "t" | "T"))
    }

    /// A number, if the parameter is there.
    pub fn number(&self, name: &str) -> Result<Option<u64>, Refusal> {
        self.get(name)
            .map(|value| {
                value.parse().map_err(|_| Refusal::bad_request(format!("invalid {name}: `{value}` is not a number")))
            })
            .transpose()
    }
}

/// A resource, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub index: KindIndex,
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub sub: Option<Sub>,
}

impl Target {
    /// The row of the resource.
    pub fn kind(&self) -> &'static Kind {
        &KINDS[self.index]
    }

    /// Where its objects are kept.
    pub fn shelf(&self) -> KindIndex {
        kinds::stored_as(self.index)
    }

    /// The namespace of an object's key: empty for cluster-scoped kinds.
    pub fn place(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }

    /// The name, for verbs that are about one object.
    pub fn named(&self) -> Result<&str, Refusal> {
        self.name.as_deref().ok_or_else(Refusal::no_such_verb)
    }

    /// Reads `/api/v1/...` or `/apis/GROUP/VERSION/...`, as far as it names a resource.
    pub fn parse(path: &str) -> Option<Self> {
        let mut parts = path.trim_matches('/').split('/');
        let group = match parts.next()? {
            "api" => "",
            "apis" => parts.next()?,
            _ => return None,
        };
        let version = parts.next()?;
        let rest: Vec<&str> = parts.collect();
        Self::within(group, version, &rest)
    }

    fn within(group: &str, version: &str, parts: &[&str]) -> Option<Self> {
        let of = |plural: &str, namespace: Option<&str>, rest: &[&str]| {
            let index = kinds::find(group, version, plural)?;
            let kind = &KINDS[index];
            let (name, sub) = match rest {
                [] => (None, None),
                [name] => (Some(*name), None),
                [name, sub] => (Some(*name), Some(kind.sub(sub)?)),
                _ => return None,
            };
            // An object in a namespace is only reached through it.
            if kind.namespaced != namespace.is_some() && !(kind.namespaced && name.is_none()) {
                return None;
            }
            let owned = |text: &str| text.to_owned();
            Some(Self { index, namespace: namespace.map(owned), name: name.map(owned), sub })
        };
        match parts {
            ["namespaces", namespace, plural, rest @ ..] if kinds::find(group, version, plural).is_some() => {
                of(plural, Some(namespace), rest)
            }
            [plural, rest @ ..] => of(plural, None, rest),
            [] => None,
        }
    }
}

/// What to do about fields a type does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

/// The options of a request that writes.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// Who is noted as the manager of the fields.
    pub manager: String,
    /// Whether the manager was named by the request itself.
    pub manager_given: bool,
    pub dry_run: bool,
    pub force: bool,
    pub validation: FieldValidation,
}

impl WriteOptions {
    /// Reads them from the query; the manager's name falls back on the user agent.
    pub fn parse(query: &Query, user_agent: &str) -> Result<Self, Refusal> {
        let dry_run = match query.get("dryRun") {
            None => false,
            Some("All") => true,
            Some(other) => {
                return Err(Refusal::bad_request(format!("invalid dryRun: `{other}`; supported is `All`")));
            }
        };
        let validation = match query.get("fieldValidation") {
            None | Some("Warn") => FieldValidation::Warn,
            Some("Ignore") => FieldValidation::Ignore,
            Some("Strict") => FieldValidation::Strict,
            Some(other) => {
                let allowed = "supported are `Ignore`, `Warn`, `Strict`";
                return Err(Refusal::bad_request(format!("invalid fieldValidation: `{other}`; {allowed}")));
            }
        };
        let given = query.get("fieldManager");
        let agent = user_agent.split(['/', ' ']).next().filter(|name| !name.is_empty()).unwrap_or("unknown");
        Ok(Self {
            manager: given.unwrap_or(agent).to_owned(),
            manager_given: given.is_some(),
            dry_run,
            force: query.is_true("force"),
            validation,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("/api/v1/pods", Some(("pods", None, None)))]
    #[case("/api/v1/namespaces", Some(("namespaces", None, None)))]
    #[case("/api/v1/namespaces/a", Some(("namespaces", None, Some("a"))))]
    #[case("/api/v1/namespaces/a/pods/b", Some(("pods", Some("a"), Some("b"))))]
    #[case("/apis/apps/v1/namespaces/a/deployments/b", Some(("deployments", Some("a"), Some("b"))))]
    #[case("/apis/apps/v1/namespaces/a/deployments/b/nosuch", None)]
    #[case("/api/v1/pods/b", None)]
    #[case("/api/v1/namespaces/a/nodes", None)]
    #[case("/api/v1/nosuch", None)]
    #[case("/apis/apps", None)]
    fn paths_name_resources(#[case] path: &str, #[case] expected: Option<(&str, Option<&str>, Option<&str>)>) {
        let found = Target::parse(path);
        let told = found.as_ref().map(|t| (t.kind().plural, t.namespace.as_deref(), t.name.as_deref()));
        assert_eq!(told, expected, "{path}");
    }

    #[test]
    fn a_namespace_has_subresources() {
        let found = Target::parse("/api/v1/namespaces/a/finalize").unwrap();
        assert_eq!((found.kind().plural, found.sub), ("namespaces", Some(Sub::Finalize)));
    }

    #[test]
    fn repeated_parameters_are_kept() {
        let query = Query::parse("command=ls&command=-l&stdin=true&limit=5");
        assert_eq!(query.all("command").collect::<Vec<_>>(), ["ls", "-l"]);
        assert!(query.is_true("stdin"));
        assert_eq!(query.number("limit").unwrap(), Some(5));
    }
}
