//! Reading the plain values: booleans, numbers, texts, lists and maps.

use std::collections::BTreeMap;

use super::{Context, Decode};
use crate::Code;
use crate::form::Form;
use crate::tree::{At, Node, Value};

impl Decode for bool {
    fn form() -> Form {
        Form::plain("boolean")
    }

    fn accepts(node: &Node) -> bool {
        matches!(node.value, Value::Bool(_))
    }

    fn decode(node: &Node, at: &At, context: &mut Context<'_>) -> Option<Self> {
        match &node.value {
            Value::Bool(flag) => Some(*flag),
            Value::Text(text) if text == "true" || text == "false" => {
                context
                    .wrong_type(node, at, "true or false")
                    .help(format!("write {text} without quotes"))
                    .suggest(text.clone());
                None
            }
            _ => {
                context.wrong_type(node, at, "true or false");
                None
            }
        }
    }
}

impl Decode for String {
    fn form() -> Form {
        Form::plain("string")
    }

    fn accepts(node: &Node) -> bool {
        matches!(node.value, Value::Text(_))
    }

    fn decode(node: &Node, at: &At, context: &mut Context<'_>) -> Option<Self> {
        match &node.value {
            Value::Text(text) => Some(text.clone()),
            Value::Int(number) => {
                let quoted = format!("\"{number}\"");
                context
                    .wrong_type(node, at, "a string")
                    .help(format!("write it in quotes: {quoted}"))
                    .suggest(quoted);
                None
            }
            Value::Bool(flag) => {
                let quoted = format!("\"{flag}\"");
                context
                    .wrong_type(node, at, "a string")
                    .help(format!("write it in quotes: {quoted}"))
                    .suggest(quoted);
                None
            }
            _ => {
                context.wrong_type(node, at, "a string");
                None
            }
        }
    }
}

macro_rules! integer {
    ($($ty:ty),*) => { $(
        impl Decode for $ty {
            fn form() -> Form {
                Form::plain("integer")
            }

            fn accepts(node: &Node) -> bool {
                matches!(node.value, Value::Int(_) | Value::Float(_))
            }

            fn decode(node: &Node, at: &At, context: &mut Context<'_>) -> Option<Self> {
                match &node.value {
                    Value::Int(number) => match <$ty>::try_from(*number) {
                        Ok(number) => Some(number),
                        Err(_) => {
                            let message = format!("{number} is outside {} to {}", <$ty>::MIN, <$ty>::MAX);
                            context.error(Code::InvalidValue, &at.path, node.span.clone(), message);
                            None
                        }
                    },
                    Value::Float(number) => {
                        let message = format!("expected a whole number, found {number}");
                        context.error(Code::WrongType, &at.path, node.span.clone(), message);
                        None
                    }
                    Value::Text(text) if text.parse::<$ty>().is_ok() => {
                        context
                            .wrong_type(node, at, "a number")
                            .help(format!("write {text} without quotes"))
                            .suggest(text.clone());
                        None
                    }
                    _ => {
                        context.wrong_type(node, at, "a number");
                        None
                    }
                }
            }
        }
    )* };
}

integer!(u16, u32, i32, i64, u64);

impl<T: Decode> Decode for Vec<T> {
    fn form() -> Form {
        let item = T::form();
        Form { kind: format!("list of {}", plural(&item.kind)), is_list: true, ..item }
    }

    fn accepts(node: &Node) -> bool {
        matches!(node.value, Value::List(_))
    }

    fn decode(node: &Node, at: &At, context: &mut Context<'_>) -> Option<Self> {
        let Value::List(items) = &node.value else {
            context.wrong_type(node, at, &format!("a list of {}", plural(&T::form().kind)));
            return None;
        };
        let read = items.iter().enumerate().map(|(index, item)| T::decode(item, &at.item(index), context));
        Some(read.collect::<Vec<_>>().into_iter().flatten().collect())
    }
}

impl<T: Decode> Decode for BTreeMap<String, T> {
    fn form() -> Form {
        Form::plain(&format!("map of {}", plural(&T::form().kind)))
    }

    fn accepts(node: &Node) -> bool {
        node.is_map()
    }

    fn decode(node: &Node, at: &At, context: &mut Context<'_>) -> Option<Self> {
        Some(map_entries(node, at, context)?.into_iter().collect())
    }
}

/// The entries of a map with free keys, in the text's order.
pub(super) fn map_entries<T: Decode>(
    node: &Node,
    at: &At,
    context: &mut Context<'_>,
) -> Option<Vec<(String, T)>> {
    if !node.is_map() {
        context.wrong_type(node, at, &format!("a map of {}", plural(&T::form().kind)));
        return None;
    }
    let keys: Vec<&str> = node.entries().iter().map(|entry| entry.key.as_str()).collect();
    let record = context.record(node, at, &keys)?;
    let mut read = Vec::with_capacity(keys.len());
    for entry in &record.entries {
        if let Some(value) = T::decode(&entry.value, &at.key(&entry.key), context) {
            read.push((entry.key.clone(), value));
        }
    }
    Some(read)
}

/// `boolean` → `booleans`, for the words that forms are made of.
pub(super) fn plural(kind: &str) -> String {
    match kind {
        "any" => "values".to_owned(),
        kind if kind.contains(" or ") || kind.contains(' ') => format!("({kind})"),
        "quantity" => "quantities".to_owned(),
        kind if kind.ends_with(['s', 'x']) => format!("{kind}es"),
        kind => format!("{kind}s"),
    }
}
