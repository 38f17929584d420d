//! Label and field selectors as clients write them in a query.
//! Pure: text in, a yes or no about an object out.

use serde_json::Value;

use super::kinds::Kind;
use super::status::Refusal;

/// One requirement on labels.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
    Compare { key: String, above: bool, bound: i64 },
}

/// Requirements that must all hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSelector(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Op(&'static str),
}

fn tokens(text: &str) -> Vec<Token> {
    const OPS: [&str; 9] = ["==", "!=", "=", "!", "(", ")", ",", ">", "<"];
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if let Some(op) = OPS.iter().find(|op| rest.starts_with(**op)) {
            found.push(Token::Op(op));
            rest = &rest[op.len()..];
        } else {
            let end = rest.find(|c: char| c.is_whitespace() || "=!(),<>".contains(c)).unwrap_or(rest.len());
            found.push(Token::Word(rest[..end].to_owned()));
            rest = &rest[end..];
        }
        rest = rest.trim_start();
    }
    found
}

struct Reader {
    tokens: Vec<Token>,
    at: usize,
}

fn unparsable(found: Option<&Token>, expected: &str) -> Refusal {
    let found = match found {
        Some(Token::Word(word)) => word.as_str(),
        Some(Token::Op(op)) => op,
        None => "",
    };
    Refusal::bad_request(format!("unable to parse requirement: found '{found}', expected: {expected}"))
}

impl Reader {
    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn word(&mut self, expected: &str) -> Result<String, Refusal> {
        match self.next() {
            Some(Token::Word(word)) => Ok(word),
            other => Err(unparsable(other.as_ref(), expected)),
        }
    }

    fn requirement(&mut self) -> Result<Requirement, Refusal> {
        if self.tokens.get(self.at) == Some(&Token::Op("!")) {
            self.at += 1;
            return self.word("identifier").map(Requirement::Absent);
        }
        let key = self.word("!, identifier, or 'end of string'")?;
        match self.next() {
            None => Ok(Requirement::Exists(key)),
            Some(Token::Op(",")) => {
                self.at -= 1;
                Ok(Requirement::Exists(key))
            }
            Some(Token::Op("=" | "==")) => Ok(Requirement::In(key, vec![self.value()])),
            Some(Token::Op("!=")) => Ok(Requirement::NotIn(key, vec![self.value()])),
            Some(Token::Word(word)) if word == "in" => Ok(Requirement::In(key, self.set()?)),
            Some(Token::Word(word)) if word == "notin" => Ok(Requirement::NotIn(key, self.set()?)),
            Some(Token::Op(op @ (">" | "<"))) => self.bound(key, op == ">"),
            Some(Token::Word(word)) if word == "gt" || word == "lt" => self.bound(key, word == "gt"),
            other => Err(unparsable(other.as_ref(), "in, notin, =, ==, !=, gt, lt")),
        }
    }

    fn bound(&mut self, key: String, above: bool) -> Result<Requirement, Refusal> {
        let bound = self.word("integer")?;
        let bound = bound.parse().map_err(|_| {
            Refusal::bad_request(format!("for 'Gt', 'Lt' operators, the value must be an integer: {bound}"))
        })?;
        Ok(Requirement::Compare { key, above, bound })
    }

    /// The right side of an equality; nothing there means the empty value.
    fn value(&mut self) -> String {
        match self.tokens.get(self.at) {
            Some(Token::Word(word)) => {
                self.at += 1;
                word.clone()
            }
            _ => String::new(),
        }
    }

    fn set(&mut self) -> Result<Vec<String>, Refusal> {
        match self.next() {
            Some(Token::Op("(")) => {}
            other => return Err(unparsable(other.as_ref(), "'('")),
        }
        let mut values = vec![self.value()];
        loop {
            match self.next() {
                Some(Token::Op(",")) => values.push(self.value()),
                Some(Token::Op(")")) => return Ok(values),
                other => return Err(unparsable(other.as_ref(), "',', or ')'")),
            }
        }
    }
}

impl LabelSelector {
    /// Reads a selector; the empty text selects everything.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let mut reader = Reader { tokens: tokens(text), at: 0 };
        let mut requirements = Vec::new();
        while reader.at < reader.tokens.len() {
            requirements.push(reader.requirement()?);
            match reader.next() {
                None => break,
                Some(Token::Op(",")) if reader.at < reader.tokens.len() => {}
                other => return Err(unparsable(other.as_ref(), "',' or 'end of string'")),
            }
        }
        Ok(Self(requirements))
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the object's labels meet every requirement.
    pub fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => labels[key].as_str().is_some_and(|label| values.iter().any(|v| v == label)),
            Requirement::NotIn(key, values) => {
                labels[key].as_str().is_none_or(|label| !values.iter().any(|v| v == label))
            }
            Requirement::Exists(key) => labels[key].is_string(),
            Requirement::Absent(key) => !labels[key].is_string(),
            Requirement::Compare { key, above, bound } => labels[key]
                .as_str()
                .and_then(|label| label.parse::<i64>().ok())
                .is_some_and(|number| if *above { number > *bound } else { number < *bound }),
        })
    }
}

/// Equalities on fields that must all hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSelector(Vec<(String, bool, String)>);

const POD_FIELDS: &[&str] = &[
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.nominatedNodeName",
];
const EVENT_FIELDS: &[&str] = &[
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];

fn supported(kind: &Kind) -> &'static [&'static str] {
    match kind.kind {
        "Pod" => POD_FIELDS,
        "Event" => EVENT_FIELDS,
        "Node" => &["spec.unschedulable"],
        "Namespace" => &["status.phase", "name"],
        "Secret" => &["type"],
        "ReplicaSet" => &["status.replicas"],
        "Service" => &["spec.clusterIP", "spec.type"],
        _ => &[],
    }
}

impl FieldSelector {
    /// Reads a selector over the fields this kind can be selected by.
    pub fn parse(text: &str, kind: &Kind) -> Result<Self, Refusal> {
        let mut terms = Vec::new();
        for term in text.split(',').map(str::trim).filter(|term| !term.is_empty()) {
            let (key, equal, value) = if let Some((key, value)) = term.split_once("!=") {
                (key, false, value)
            } else if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
                (key, true, value)
            } else {
                return Err(Refusal::bad_request(format!("invalid selector: '{text}'; can't understand '{term}'")));
            };
            let general = key == "metadata.name" || (key == "metadata.namespace" && kind.namespaced);
            // The other face of events has its own word for what an event is about.
            let key = key.replace("regarding.", "involvedObject.");
            if !general && !supported(kind).contains(&key.as_str()) {
                return Err(Refusal::bad_request(format!("field label not supported: {key}")));
            }
            terms.push((key, equal, value.to_owned()));
        }
        Ok(Self(terms))
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the stored object's fields meet every term.
    pub fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|(key, equal, wanted)| (field_text(object, key) == *wanted) == *equal)
    }
}

fn field_text(object: &Value, key: &str) -> String {
    let key = match key {
        "source" => "source.component",
        "name" => "metadata.name",
        other => other,
    };
    match key.split('.').fold(object, |value, part| &value[part]) {
        Value::String(text) => text.clone(),
        Value::Null if key == "spec.unschedulable" || key == "spec.hostNetwork" => "false".to_owned(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case("", true)]
    #[case("app=web", true)]
    #[case("app==web,tier!=db", true)]
    #[case("app != web", false)]
    #[case("app in (web, db)", true)]
    #[case("app notin (web)", false)]
    #[case("other notin (web)", true)]
    #[case("app", true)]
    #[case("!app", false)]
    #[case("!other", true)]
    #[case("count>2", true)]
    #[case("count gt 3", false)]
    #[case("empty=", true)]
    #[case("app in (web),!other,count<9", true)]
    fn labels_are_selected(#[case] text: &str, #[case] expected: bool) {
        let object = json!({"metadata": {"labels": {"app": "web", "count": "3", "empty": ""}}});
        assert_eq!(LabelSelector::parse(text).unwrap().matches(&object), expected, "{text}");
    }

    #[rstest]
    #[case("a b c")]
    #[case("a in b")]
    #[case("a in (b")]
    #[case("=b")]
    #[case("a=b,")]
    #[case("a=b c=d")]
    fn nonsense_is_refused(#[case] text: &str) {
        assert_eq!(LabelSelector::parse(text).unwrap_err().code, 400, "{text}");
    }
}
