//! Bodies in Kubernetes' protobuf envelope, which typed clients such as `kubectl create` send.
//! Reads them into the same values as JSON, by the field numbers of `fields.txt`; answers are JSON all the same.

use jiff::Timestamp;
use k8s_openapi::ByteString;
use serde_json::{Map, Value, json};

use super::schema::{Shape, Type, Wire, type_of};

/// What every such body begins with.
const MAGIC: &[u8] = b"k8s\0";
/// Deep enough for every real object, shallow enough for any stack.
const DEEPEST: usize = 64;

/// One field of a message as it stands on the wire.
enum Raw<'a> {
    Number(u64),
    Double(f64),
    Bytes(&'a [u8]),
}

type Read<T> = Result<T, String>;

/// Reads a body that is expected to hold a message of type `type_name`.
pub fn read(body: &[u8], type_name: &'static str) -> Read<Value> {
    let envelope = body.strip_prefix(MAGIC).ok_or("the body does not begin as protobuf of Kubernetes does")?;
    let mut value = json!({});
    let mut message: &[u8] = &[];
    for field in fields(envelope)? {
        match field {
            (1, Raw::Bytes(type_meta)) => {
                for (number, raw) in fields(type_meta)? {
                    if let (1 | 2, Raw::Bytes(text)) = (number, raw) {
                        value[if number == 1 { "apiVersion" } else { "kind" }] = json!(utf8(text)?);
                    }
                }
            }
            (2, Raw::Bytes(bytes)) => message = bytes,
            (3, Raw::Bytes(encoding)) if !encoding.is_empty() => {
                return Err("the body is encoded once more".to_owned());
            }
            _ => {}
        }
    }
    let known = type_of(type_name).ok_or("the type is not described")?;
    if let Value::Object(map) = &mut value {
        read_message(message, known, map, 0)?;
    }
    Ok(value)
}

fn varint(bytes: &mut &[u8]) -> Read<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().ok_or("a number is cut off")?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("a number is too long".to_owned())
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Read<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length).ok_or("a field is cut off")?;
    *bytes = rest;
    Ok(taken)
}

/// The fields of a message, in order.
fn fields(mut bytes: &[u8]) -> Read<Vec<(u32, Raw<'_>)>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let number = u32::try_from(tag >> 3).map_err(|_| "a field number is too large")?;
        let raw = match tag & 7 {
            0 => Raw::Number(varint(&mut bytes)?),
            1 => {
                let eight: [u8; 8] = take(&mut bytes, 8)?.try_into().unwrap_or_default();
                Raw::Double(f64::from_le_bytes(eight))
            }
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).map_err(|_| "a field is too long")?;
                Raw::Bytes(take(&mut bytes, length)?)
            }
            5 => {
                take(&mut bytes, 4)?;
                continue;
            }
            other => return Err(format!("wire type {other} is not known")),
        };
        found.push((number, raw));
    }
    Ok(found)
}

fn utf8(bytes: &[u8]) -> Read<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| "a text is not UTF-8".to_owned())
}

fn read_message(bytes: &[u8], known: &Type, into: &mut Map<String, Value>, depth: usize) -> Read<()> {
    if depth > DEEPEST {
        return Err("the message is nested too deeply".to_owned());
    }
    for (number, raw) in fields(bytes)? {
        let direct = known.fields.iter().find(|(_, field)| field.wire == Some(Wire::Own(number)));
        if let Some((name, field)) = direct {
            read_field(name, &field.shape, &raw, into, depth)?;
        } else if let Raw::Bytes(embedded) = raw {
            // Go's embedded structs are messages of their own; in JSON their fields belong to the outer one.
            for (inner, raw) in fields(embedded)? {
                let found = known.fields.iter().find(|(_, field)| field.wire == Some(Wire::Embedded(number, inner)));
                if let Some((name, field)) = found {
                    read_field(name, &field.shape, &raw, into, depth)?;
                }
            }
        }
    }
    Ok(())
}

fn read_field(name: &str, shape: &Shape, raw: &Raw<'_>, into: &mut Map<String, Value>, depth: usize) -> Read<()> {
    match (shape, raw) {
        (Shape::Any, _) => {}
        (Shape::List { item, .. }, raw) => {
            let items = into.entry(name.to_owned()).or_insert_with(|| json!([]));
            let value = read_value(item, raw, depth)?;
            if let Value::Array(items) = items {
                items.push(value);
            }
        }
        (Shape::Map { item, .. }, Raw::Bytes(entry)) => {
            let (mut key, mut value) = (String::new(), read_value(item, &Raw::Bytes(&[]), depth)?);
            for (number, raw) in fields(entry)? {
                match (number, raw) {
                    (1, Raw::Bytes(text)) => key = utf8(text)?,
                    (2, raw) => value = read_value(item, &raw, depth)?,
                    _ => {}
                }
            }
            into.entry(name.to_owned()).or_insert_with(|| json!({}))[key] = value;
        }
        _ => {
            into.insert(name.to_owned(), read_value(shape, raw, depth)?);
        }
    }
    Ok(())
}

fn read_value(shape: &Shape, raw: &Raw<'_>, depth: usize) -> Read<Value> {
    match (shape, raw) {
        (Shape::Str, Raw::Bytes(text)) => utf8(text).map(Value::String),
        (Shape::Int, Raw::Number(number)) => Ok(json!(number.cast_signed())),
        (Shape::Bool, Raw::Number(number)) => Ok(json!(*number != 0)),
        (Shape::Num, Raw::Double(number)) => Ok(json!(number)),
        (Shape::Bytes, Raw::Bytes(bytes)) => {
            serde_json::to_value(ByteString(bytes.to_vec())).map_err(|error| error.to_string())
        }
        (Shape::Quantity, Raw::Bytes(message)) => match fields(message)?.into_iter().next() {
            Some((1, Raw::Bytes(text))) => utf8(text).map(Value::String),
            _ => Ok(Value::Null),
        },
        (Shape::Time, Raw::Bytes(message)) => time(message),
        (Shape::IntOrStr, Raw::Bytes(message)) => int_or_string(message),
        (Shape::Struct { name, .. }, Raw::Bytes(message)) => {
            let known = type_of(name).ok_or("a type is not described")?;
            let mut map = Map::new();
            read_message(message, known, &mut map, depth + 1)?;
            Ok(Value::Object(map))
        }
        // The empty value of a map's entry that has none.
        (_, Raw::Bytes([])) => Ok(Value::Null),
        _ => Err("a field is of another type than expected".to_owned()),
    }
}

fn time(message: &[u8]) -> Read<Value> {
    let (mut seconds, mut nanos) = (None, 0);
    for field in fields(message)? {
        match field {
            (1, Raw::Number(number)) => seconds = Some(number.cast_signed()),
            (2, Raw::Number(number)) => nanos = i32::try_from(number).unwrap_or(0),
            _ => {}
        }
    }
    // A time that was never set is an empty message.
    let Some(seconds) = seconds else {
        return Ok(Value::Null);
    };
    let time = Timestamp::new(seconds, nanos).map_err(|error| error.to_string())?;
    let text =
        if nanos == 0 { super::time::seconds(time) } else { time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string() };
    Ok(json!(text))
}

fn int_or_string(message: &[u8]) -> Read<Value> {
    let (mut is_text, mut number, mut text) = (false, 0, String::new());
    for field in fields(message)? {
        match field {
            (1, Raw::Number(kind)) => is_text = kind == 1,
            (2, Raw::Number(found)) => number = found.cast_signed(),
            (3, Raw::Bytes(found)) => text = utf8(found)?,
            _ => {}
        }
    }
    Ok(if is_text { json!(text) } else { json!(number) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, u8::try_from(bytes.len()).unwrap()];
        out.extend_from_slice(bytes);
        out
    }

    fn envelope(version: &str, kind: &str, message: &[u8]) -> Vec<u8> {
        let type_meta = [field(1, version.as_bytes()), field(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), field(1, &type_meta), field(2, message)].concat()
    }

    #[test]
    fn a_config_map_is_read() {
        let meta = [field(1, b"settings"), field(8, &[])].concat();
        let entry = [field(1, b"a"), field(2, b"1")].concat();
        let body = envelope("v1", "ConfigMap", &[field(1, &meta), field(2, &entry)].concat());
        let value = read(&body, "ConfigMap").unwrap();
        let expected = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "1"},
            "metadata": {"name": "settings", "creationTimestamp": null}});
        assert_eq!(value, expected);
    }

    #[test]
    fn embedded_messages_and_numbers_or_names_are_read() {
        let http = field(2, &[0x08, 0, 0x10, 0x90, 0x3f]);
        let probe = field(1, &field(2, &http));
        let container = [field(1, b"c"), field(11, &probe)].concat();
        let body = envelope("v1", "Pod", &field(2, &field(2, &container)));
        let value = read(&body, "Pod").unwrap();
        assert_eq!(value["spec"]["containers"][0]["readinessProbe"], json!({"httpGet": {"port": 8080}}));
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let whole = envelope("v1", "Namespace", &field(1, &field(1, b"name")));
        for length in MAGIC.len() + 1..whole.len() {
            // Cutting between two fields of the envelope leaves a shorter envelope; anywhere else is an error.
            if let Ok(value) = read(&whole[..length], "Namespace") {
                assert_eq!(value.get("metadata"), None);
            }
        }
        assert!(read(b"{}", "Namespace").is_err());
    }
}
