//! Typed values out of the tree. Reading never stops at the first fault: what cannot be used is reported and left
//! out, and its neighbours are read on.

mod expressions;
mod shapes;
mod values;

use std::ops::Range as Span;

use crate::form::Form;
use crate::problem::LineIndex;
use crate::suggest;
use crate::tree::{At, Entry, Node, Value};
use crate::{Code, Problem, Range, Severity};

pub(crate) use expressions::check_json_path;
pub use expressions::{JqProgram, JsonPathQuery};
pub use shapes::{FlagOr, OneOrMany, Opaque, Ordered, PathPattern, Pattern, PortPair, Quantity, Short};
pub(crate) use shapes::{check_path_pattern, compile_pattern};

/// A type that a config can hold.
pub(crate) trait Decode: Sized {
    /// What it looks like.
    fn form() -> Form;

    /// Whether a node has one of its types at all; what is in it is judged by `decode`.
    fn accepts(node: &Node) -> bool;

    /// Reads it; on `None` at least one problem was reported.
    fn decode(node: &Node, at: &At, context: &mut Context<'_>) -> Option<Self>;
}

/// Collects the problems of one text.
#[derive(Debug)]
pub(crate) struct Context<'t> {
    lines: LineIndex<'t>,
    problems: Vec<Problem>,
    /// Settings that an environment variable stands over, and its name.
    variables: Vec<(&'static str, &'static str)>,
}

impl<'t> Context<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Self { lines: LineIndex::new(text), problems: Vec::new(), variables: Vec::new() }
    }

    /// Notes that a setting came from an environment variable: its problems name the variable, not a place.
    pub(crate) fn note_variable(&mut self, path: &'static str, variable: &'static str) {
        self.variables.push((path, variable));
    }

    pub(crate) fn into_problems(mut self) -> Vec<Problem> {
        for problem in &mut self.problems {
            let inside = |path: &str| {
                problem
                    .path
                    .strip_prefix(path)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
            };
            if let Some((_, variable)) = self.variables.iter().find(|(path, _)| inside(path)) {
                problem.message = format!("{variable}: {}", problem.message);
                problem.range = Range::default();
            }
        }
        self.problems
    }

    pub(crate) fn error(
        &mut self,
        code: Code,
        path: &str,
        span: Span<usize>,
        message: impl Into<String>,
    ) -> Draft<'_> {
        self.report(Severity::Error, code, path, span, message.into())
    }

    pub(crate) fn warning(
        &mut self,
        code: Code,
        path: &str,
        span: Span<usize>,
        message: impl Into<String>,
    ) -> Draft<'_> {
        self.report(Severity::Warning, code, path, span, message.into())
    }

    fn report(
        &mut self,
        severity: Severity,
        code: Code,
        path: &str,
        span: Span<usize>,
        message: String,
    ) -> Draft<'_> {
        let range = self.lines.range(&span);
        let at = self.problems.len();
        let path = path.to_owned();
        self.problems.push(Problem { severity, code, path, message, help: None, suggestion: None, range });
        Draft { problem: self.problems.get_mut(at) }
    }

    pub(crate) fn wrong_type(&mut self, node: &Node, at: &At, expected: &str) -> Draft<'_> {
        let message = format!("expected {expected}, found {}", node.kind());
        self.error(Code::WrongType, &at.path, node.span.clone(), message)
    }

    /// Opens an object: reports a wrong type, unknown keys and keys that stand twice.
    pub(crate) fn record<'n>(&mut self, node: &'n Node, at: &At, keys: &[&str]) -> Option<Record<'n>> {
        let Value::Map(entries) = &node.value else {
            self.wrong_type(node, at, "an object");
            return None;
        };
        let mut seen: Vec<&Entry> = Vec::with_capacity(entries.len());
        for entry in entries {
            let place = at.key(&entry.key);
            if seen.iter().any(|other| other.key == entry.key) {
                let message = format!("`{}` stands twice in the same object", entry.key);
                self.error(Code::DuplicateKey, &place.path, entry.key_span.clone(), message)
                    .help("keep one of the two");
                continue;
            }
            seen.push(entry);
            let is_schema_link = at.path.is_empty() && entry.key == "$schema";
            if !keys.contains(&entry.key.as_str()) && !is_schema_link {
                suggest::unknown_key(at, entry, keys, self);
            }
        }
        Some(Record { at: at.clone(), entries: seen })
    }

    /// Reads one of a few words.
    pub(crate) fn word<'w>(&mut self, node: &Node, at: &At, words: &[&'w str]) -> Option<&'w str> {
        let choices = words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        let Value::Text(text) = &node.value else {
            self.wrong_type(node, at, &format!("one of {choices}"));
            return None;
        };
        if let Some(word) = words.iter().find(|word| *word == text) {
            return Some(word);
        }
        let nearest = suggest::nearest(text, words);
        let problem = self.error(
            Code::InvalidValue,
            &at.path,
            node.span.clone(),
            match nearest {
                Some(nearest) => {
                    format!("\"{text}\" is not a value of this key; did you mean \"{nearest}\"?")
                }
                None => format!("\"{text}\" is not a value of this key"),
            },
        );
        let problem = problem.help(format!("one of {choices}"));
        if let Some(nearest) = nearest {
            problem.suggest(nearest);
        }
        None
    }
}

/// The problem just reported, to be given more to say.
pub(crate) struct Draft<'c> {
    problem: Option<&'c mut Problem>,
}

impl Draft<'_> {
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        if let Some(problem) = &mut self.problem {
            problem.help = Some(help.into());
        }
        self
    }

    pub(crate) fn suggest(mut self, suggestion: impl Into<String>) -> Self {
        if let Some(problem) = &mut self.problem {
            problem.suggestion = Some(suggestion.into());
        }
        self
    }
}

/// An object whose keys were checked.
pub(crate) struct Record<'n> {
    at: At,
    entries: Vec<&'n Entry>,
}

impl<'n> Record<'n> {
    pub(crate) fn entry(&self, key: &str) -> Option<&'n Entry> {
        // `null` means absent, as in every reader of this format.
        self.entries
            .iter()
            .copied()
            .find(|entry| entry.key == key && !matches!(entry.value.value, Value::Null))
    }

    pub(crate) fn field<T: Decode>(&self, key: &str, context: &mut Context<'_>) -> Option<T> {
        let entry = self.entry(key)?;
        T::decode(&entry.value, &self.at.key(key), context)
    }
}
