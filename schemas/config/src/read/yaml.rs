//! YAML 1.2 (core schema), from saphyr-parser's events: its ready-made tree forgets duplicate keys, ours keeps
//! them. Anchors, aliases and the `<<` merge key work; a second document is an error.

use std::collections::HashMap;
use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use crate::Code;
use crate::decode::Context;
use crate::tree::{Entry, Node, Value};

/// Aliases are copied when read; a small file must not grow into a huge tree.
const MAX_NODES: usize = 100_000;

/// Deeper than any config; what walks the tree calls itself for each level.
const MAX_DEPTH: usize = 64;

pub(super) fn read(text: &str, context: &mut Context<'_>) -> Option<Node> {
    let offsets = Offsets::new(text);
    let mut builder = Builder { stack: Vec::new(), anchors: HashMap::new(), root: None, nodes: 0 };
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => {
                let span = offsets.span(&span);
                if let Err(message) = builder.take(event, span.clone()) {
                    context.error(Code::Syntax, "", span, message);
                    return None;
                }
            }
            Err(error) => {
                let at = offsets.byte(error.marker().index());
                context.error(Code::Syntax, "", at..at, format!("not valid YAML: {}", error.info()));
                return None;
            }
        }
    }
    Some(match builder.root {
        Some(Node { value: Value::Null, span }) => Node { value: Value::Map(Vec::new()), span },
        Some(root) => root,
        None => Node { value: Value::Map(Vec::new()), span: 0..text.len() },
    })
}

/// The parser counts characters; the tree counts bytes.
struct Offsets {
    bytes: Vec<usize>,
    end: usize,
}

impl Offsets {
    fn new(text: &str) -> Self {
        // The parser does not count a byte order mark, so neither does this.
        let bytes = text.char_indices().map(|(at, _)| at).collect();
        Self { bytes, end: text.len() }
    }

    fn byte(&self, character: usize) -> usize {
        self.bytes.get(character).copied().unwrap_or(self.end)
    }

    fn span(&self, span: &Span) -> Range<usize> {
        self.byte(span.start.index())..self.byte(span.end.index())
    }
}

enum Open {
    List(Vec<Node>),
    Map(Vec<Entry>, Option<(String, Range<usize>)>),
}

/// A list or an object whose end was not seen yet.
struct Level {
    open: Open,
    anchor: usize,
    start: usize,
    /// Levels inside it so far.
    depth: usize,
}

struct Builder {
    stack: Vec<Level>,
    /// What each anchor names, and the levels inside it.
    anchors: HashMap<usize, (Node, usize)>,
    root: Option<Node>,
    nodes: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Range<usize>) -> Result<(), String> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar(&text, style, tag.as_deref());
                self.value(anchor, Node { value, span }, 0)
            }
            Event::SequenceStart(anchor, _) => self.open(Open::List(Vec::new()), anchor, span.start),
            Event::MappingStart(anchor, _) => self.open(Open::Map(Vec::new(), None), anchor, span.start),
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(level) = self.stack.pop() else {
                    return Err("not valid YAML: an end without a start".to_owned());
                };
                let value = match level.open {
                    Open::List(items) => Value::List(items),
                    Open::Map(entries, _) => Value::Map(merged(entries)?),
                };
                let span = level.start..span.end.max(level.start);
                self.value(level.anchor, Node { value, span }, level.depth + 1)
            }
            Event::Alias(anchor) => {
                let Some((node, depth)) = self.anchors.get(&anchor) else {
                    return Err("not valid YAML: an alias that names itself".to_owned());
                };
                let (value, depth) = (node.value.clone(), *depth);
                self.nodes += count(&value);
                self.value(0, Node { value, span }, depth)
            }
            Event::DocumentStart(_) if self.root.is_some() => {
                Err("a config is one YAML document; a second one starts here".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn open(&mut self, open: Open, anchor: usize, start: usize) -> Result<(), String> {
        if self.stack.len() >= MAX_DEPTH {
            return Err(too_deep());
        }
        self.stack.push(Level { open, anchor, start, depth: 0 });
        Ok(())
    }

    fn value(&mut self, anchor: usize, node: Node, depth: usize) -> Result<(), String> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err("the aliases of this file unfold to more values than a config can have".to_owned());
        }
        if self.stack.len() + depth > MAX_DEPTH {
            return Err(too_deep());
        }
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), depth));
        }
        let Some(level) = self.stack.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        level.depth = level.depth.max(depth);
        match &mut level.open {
            Open::List(items) => items.push(node),
            Open::Map(entries, key) => match key.take() {
                Some((key, key_span)) => entries.push(Entry { key, key_span, value: node }),
                None => {
                    let text = match node.value {
                        Value::Text(text) => text,
                        Value::Int(number) => number.to_string(),
                        Value::Float(number) => number.to_string(),
                        Value::Bool(flag) => flag.to_string(),
                        Value::Null => "null".to_owned(),
                        Value::List(_) | Value::Map(_) => {
                            return Err("a key must be a plain word, not a list or an object".to_owned());
                        }
                    };
                    *key = Some((text, node.span));
                }
            },
        }
        Ok(())
    }
}

fn too_deep() -> String {
    format!("lists and objects stand more than {MAX_DEPTH} levels deep in each other")
}

/// Applies `<<`: merged keys come in where the object does not have them itself.
fn merged(entries: Vec<Entry>) -> Result<Vec<Entry>, String> {
    let mut own = Vec::with_capacity(entries.len());
    let mut merges = Vec::new();
    for entry in entries {
        if entry.key == "<<" { merges.push(entry.value) } else { own.push(entry) }
    }
    for merge in merges {
        let sources = match merge.value {
            Value::List(items) => items,
            value => vec![Node { value, span: merge.span }],
        };
        for source in sources {
            let Value::Map(inherited) = source.value else {
                return Err("`<<` takes an alias of an object, or a list of such".to_owned());
            };
            for entry in inherited {
                if !own.iter().any(|mine| mine.key == entry.key) {
                    own.push(entry);
                }
            }
        }
    }
    Ok(own)
}

fn count(value: &Value) -> usize {
    match value {
        Value::List(items) => 1 + items.iter().map(|item| count(&item.value)).sum::<usize>(),
        Value::Map(entries) => 1 + entries.iter().map(|entry| count(&entry.value.value)).sum::<usize>(),
        _ => 1,
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Value {
    let tag = tag.filter(|tag| tag.is_yaml_core_schema()).map(|tag| tag.suffix.as_str());
    if style != ScalarStyle::Plain || tag == Some("str") {
        return Value::Text(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        ".inf" | ".Inf" | ".INF" | "+.inf" => Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Value::Float(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => Value::Float(f64::NAN),
        _ => number(text).unwrap_or_else(|| Value::Text(text.to_owned())),
    }
}

fn number(text: &str) -> Option<Value> {
    if let Some(digits) = text.strip_prefix("0x") {
        return i64::from_str_radix(digits, 16).ok().map(Value::Int);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return i64::from_str_radix(digits, 8).ok().map(Value::Int);
    }
    if let Ok(number) = text.parse::<i64>() {
        return Some(Value::Int(number));
    }
    // Rust reads `inf`, `nan` and `infinity` as numbers too; YAML does not.
    let numeric = text.chars().all(|character| character.is_ascii_digit() || "+-.eE".contains(character));
    numeric.then(|| text.parse::<f64>().ok()).flatten().map(Value::Float)
}
