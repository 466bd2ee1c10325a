//! Templates in a config: the whole text is rendered (Tera's language) before it is read. Places in the rendered
//! text are led back to the lines of the original.

use std::collections::{BTreeMap, HashMap};
use std::error::Error as _;

use tera::{Tera, Value as TeraValue};

use crate::inputs::Inputs;
use crate::problem::{Position, Range};

/// Whether a text has anything to render.
pub(crate) fn is_template(text: &str) -> bool {
    ["{{", "{%", "{#"].iter().any(|mark| text.contains(mark))
}

/// Why a text could not be rendered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TemplateError {
    pub(crate) message: String,
    /// Byte offset in the original.
    pub(crate) offset: usize,
}

/// Renders a text; `key` is the session's.
pub(crate) fn render(text: &str, key: &str, inputs: &Inputs) -> Result<String, TemplateError> {
    let mut engine = Tera::default();
    let env: BTreeMap<String, String> = inputs.env.clone();
    // Tera's own `get_env` reads this process; the user's environment is another.
    engine
        .register_function("get_env", move |arguments: &HashMap<String, TeraValue>| get_env(&env, arguments));
    let mut variables = tera::Context::new();
    variables.insert("key", key);
    if let Some(branch) = inputs.branch() {
        variables.insert("git_branch", branch);
    }
    engine.autoescape_on(Vec::new());
    engine
        .add_raw_template("config", text)
        .and_then(|()| engine.render("config", &variables))
        .map_err(|error| explain(text, &error))
}

fn get_env(
    env: &BTreeMap<String, String>,
    arguments: &HashMap<String, TeraValue>,
) -> tera::Result<TeraValue> {
    let Some(name) = arguments.get("name").and_then(TeraValue::as_str) else {
        return Err("get_env needs a name, as in get_env(name=\"TARGET\")".into());
    };
    match (env.get(name), arguments.get("default")) {
        (Some(value), _) => Ok(value.clone().into()),
        (None, Some(default)) => Ok(default.clone()),
        (None, None) => {
            Err(format!("the environment variable {name} is not set, and get_env has no default").into())
        }
    }
}

/// Tera says the cause last, and its place (for what does not parse) in a picture.
fn explain(text: &str, error: &tera::Error) -> TemplateError {
    let mut chain = vec![error.to_string()];
    let mut source = error.source();
    while let Some(inner) = source {
        chain.push(inner.to_string());
        source = inner.source();
    }
    let first_mark = ["{{", "{%", "{#"].iter().filter_map(|mark| text.find(mark)).min().unwrap_or(0);
    let place = chain.iter().find_map(|message| {
        let (_, rest) = message.split_once("--> ")?;
        let (line, rest) = rest.split_once(':')?;
        let column: String = rest.chars().take_while(char::is_ascii_digit).collect();
        offset_of(text, line.trim().parse().ok()?, column.parse().ok()?)
    });
    let cause = chain.last().map_or("", String::as_str);
    // In a picture the reason stands after `= `.
    let cause = cause.rsplit_once("= ").map_or(cause, |(_, reason)| reason);
    let cause = cause.lines().next().unwrap_or_default().replace(" while rendering 'config'", "");
    let named =
        ["get_env", "git_branch"].iter().find(|word| cause.contains(*word)).and_then(|word| text.find(word));
    TemplateError { message: cause, offset: place.or(named).unwrap_or(first_mark) }
}

/// The byte offset of a line and column that count from 1.
fn offset_of(text: &str, line: usize, column: usize) -> Option<usize> {
    let start: usize = text.split_inclusive('\n').take(line.checked_sub(1)?).map(str::len).sum();
    let in_line = text.get(start..)?.char_indices().nth(column.checked_sub(1)?).map_or(0, |(at, _)| at);
    Some(start + in_line)
}

/// Leads a range of the rendered text back to the original: exactly where a line was left as it is, to the whole
/// line where it was rendered.
pub(crate) fn original_range(range: Range, rendered: &str, original: &str) -> Range {
    let new: Vec<&str> = rendered.lines().collect();
    let old: Vec<&str> = original.lines().collect();
    let at = usize::try_from(range.start.line).unwrap_or(usize::MAX);
    let line = if new.len() == old.len() {
        at
    } else {
        // Blocks may drop or repeat lines: the same line, counted from the nearer end.
        let text = new.get(at).copied().unwrap_or_default();
        let same = old.iter().enumerate().filter(|(_, line)| **line == text).map(|(index, _)| index);
        same.min_by_key(|index| index.abs_diff(at)).unwrap_or_else(|| at.min(old.len().saturating_sub(1)))
    };
    let (Some(before), after) = (old.get(line).copied(), new.get(at).copied()) else { return range };
    let number = u32::try_from(line).unwrap_or(u32::MAX);
    if Some(before) == after && range.start.line == range.end.line {
        let place = |place: Position| Position { line: number, ..place };
        return Range { start: place(range.start), end: place(range.end) };
    }
    let indent = before.len() - before.trim_start().len();
    let units = |text: &str| u32::try_from(text.encode_utf16().count()).unwrap_or(u32::MAX);
    Range {
        start: Position { line: number, character: u32::try_from(indent).unwrap_or(0) },
        end: Position { line: number, character: units(before) },
    }
}
