//! `mirrord.json`: what may stand in it, what it means, and what is wrong with a given one.
//!
//! A text (JSON, TOML or YAML) is read once into a tree that knows where everything stands; the typed
//! [`MirrordConfig`] and every [`Problem`] come from that one tree, so the three formats are judged alike and a
//! bad file reports all its problems at once. The crate reads no files, no environment and no network.
//!
//! The JSON schema and the settings page are made from the same declarations (see [`json_schema`] and
//! [`settings_page`]).

mod address;
mod check;
mod decode;
mod form;
mod generate;
mod model;
mod problem;
mod read;
mod status;
mod suggest;
mod target;
mod tree;

pub use address::{AddressFilter, AddressFilterError, Host, Transport};
pub use decode::{
    FlagOr, JqProgram, JsonPathQuery, OneOrMany, Opaque, Ordered, PathPattern, Pattern, PortPair, Quantity,
    Short,
};
pub use form::{Field, Form};
pub use generate::{Setting, json_schema, settings, settings_page};
pub use model::*;
pub use problem::{Code, Position, Problem, Range, Severity};
pub use status::{Status, status_of};
pub use target::{Target, TargetParseError, WorkloadKind};

use decode::{Context, Decode};
use tree::At;

/// The format that a config text is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JSON. Comments and trailing commas are reported, but do not hide what else is wrong.
    Json,
    /// TOML 1.0.
    Toml,
    /// YAML 1.2, one document.
    Yaml,
}

impl Format {
    /// The format that a file name's extension stands for; no extension means JSON.
    #[must_use]
    pub fn of_file_name(name: &str) -> Option<Self> {
        let base = name.rsplit(['/', '\\']).next().unwrap_or(name);
        match base.rsplit_once('.') {
            None | Some(("", _)) => Some(Self::Json),
            Some((_, extension)) => match extension.to_ascii_lowercase().as_str() {
                "json" => Some(Self::Json),
                "toml" => Some(Self::Toml),
                "yaml" | "yml" => Some(Self::Yaml),
                _ => None,
            },
        }
    }
}

/// What reading a config text gave.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// The config; `None` as soon as one problem is an error.
    pub config: Option<MirrordConfig>,
    /// Every problem, in the order of their places in the text.
    pub problems: Vec<Problem>,
}

impl Parsed {
    /// Whether a problem is an error, so that the config cannot be used.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Error)
    }
}

/// Reads and checks a config text.
#[must_use]
pub fn parse(text: &str, format: Format) -> Parsed {
    let mut context = Context::new(text);
    let config = read::read(text, format, &mut context).and_then(|tree| {
        let config = MirrordConfig::decode(&tree, &At::root(), &mut context)?;
        check::check(&config, &tree, &mut context);
        Some(config)
    });
    let mut problems = context.into_problems();
    problems.sort_by(|a, b| (a.range.start, a.severity, &a.path).cmp(&(b.range.start, b.severity, &b.path)));
    let failed = problems.iter().any(|problem| problem.severity == Severity::Error);
    Parsed { config: config.filter(|_| !failed), problems }
}
