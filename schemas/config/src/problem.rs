//! A problem of a config: how bad, what, where in the file, and what to do.

use serde::Serialize;

/// Whether a run can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The config cannot be used.
    Error,
    /// The config can be used, but not all of it does what it says.
    Warning,
}

/// What kind of problem it is. The wire form (see [`Code::as_str`]) is stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The text does not parse in its format.
    Syntax,
    /// A template that cannot be rendered.
    Template,
    /// A key that no setting has.
    UnknownKey,
    /// A key that stands twice in one object.
    DuplicateKey,
    /// A value of a type that the setting does not take.
    WrongType,
    /// A value of the right type that the setting does not take.
    InvalidValue,
    /// A pattern that does not compile.
    InvalidPattern,
    /// A `target` that does not parse.
    InvalidTarget,
    /// Two settings that exclude each other.
    Conflict,
    /// A setting that an object must have.
    MissingKey,
    /// A setting that has a successor.
    Deprecated,
    /// A setting that is read but has no effect yet.
    NotYet,
    /// A setting that belongs to mirrord's paid operator.
    Paid,
    /// A setting that matters on macOS only.
    MacOnly,
    /// A setting that by the way this program works has nothing to act on.
    NoEffect,
    /// A setting that is allowed but likely not what was meant.
    Doubtful,
}

impl Code {
    /// The stable name, as it goes over the wire and into tests.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::Template => "template",
            Self::UnknownKey => "unknown-key",
            Self::DuplicateKey => "duplicate-key",
            Self::WrongType => "wrong-type",
            Self::InvalidValue => "invalid-value",
            Self::InvalidPattern => "invalid-pattern",
            Self::InvalidTarget => "invalid-target",
            Self::Conflict => "conflict",
            Self::MissingKey => "missing-key",
            Self::Deprecated => "deprecated",
            Self::NotYet => "not-yet",
            Self::Paid => "paid",
            Self::MacOnly => "mac-only",
            Self::NoEffect => "no-effect",
            Self::Doubtful => "doubtful",
        }
    }
}

/// A place in the text, counted as the language server protocol counts: lines and UTF-16 units from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub struct Position {
    /// The line, from 0.
    pub line: u32,
    /// UTF-16 units from the start of the line.
    pub character: u32,
}

impl Position {
    /// Line and column as a person counts them, from 1.
    #[must_use]
    pub fn human(self) -> (u32, u32) {
        (self.line + 1, self.character + 1)
    }
}

/// A stretch of the text; `end` is exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
pub struct Range {
    /// The first place.
    pub start: Position,
    /// The place after the last.
    pub end: Position,
}

/// One problem of a config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Whether a run can go on.
    pub severity: Severity,
    /// What kind of problem it is.
    pub code: Code,
    /// The key's path, such as `feature.network.incoming`; empty for the whole file.
    pub path: String,
    /// What is wrong, in one line.
    pub message: String,
    /// What to do about it, in one line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// A key path or a value to put in place of the one found, where there is a likely one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
    /// Where it stands.
    pub range: Range,
}

impl std::fmt::Display for Problem {
    /// `LINE:COLUMN: error[code] path: message (help)`, for terminals.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (line, column) = self.range.start.human();
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{line}:{column}: {severity}[{}]", self.code.as_str())?;
        if !self.path.is_empty() {
            write!(f, " {}", self.path)?;
        }
        write!(f, ": {}", self.message)?;
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

/// Turns byte offsets of a text into [`Position`]s.
#[derive(Debug)]
pub(crate) struct LineIndex<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> LineIndex<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    pub(crate) fn position(&self, offset: usize) -> Position {
        let offset = offset.min(self.text.len());
        let line = self.starts.partition_point(|start| *start <= offset).saturating_sub(1);
        let start = self.starts.get(line).copied().unwrap_or(0);
        // A parser's offset may point into a character (never seen, but it is not ours): count what is whole.
        let units: usize = self
            .text
            .get(start..)
            .unwrap_or_default()
            .char_indices()
            .take_while(|(at, _)| start + at < offset)
            .map(|(_, character)| character.len_utf16())
            .sum();
        Position { line: to_u32(line), character: to_u32(units) }
    }

    pub(crate) fn range(&self, span: &std::ops::Range<usize>) -> Range {
        Range { start: self.position(span.start), end: self.position(span.end.max(span.start)) }
    }
}

fn to_u32(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_utf16_units_from_the_start_of_the_line() {
        let index = LineIndex::new("a\n\"ü😀x\"\n");
        assert_eq!(index.position(0), Position { line: 0, character: 0 });
        let x = "a\n\"ü😀".len();
        assert_eq!(index.position(x), Position { line: 1, character: 4 });
        assert_eq!(index.position(x).human(), (2, 5));
        assert_eq!(index.position(9999), Position { line: 2, character: 0 });
    }
}
