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
mod inputs;
mod model;
mod problem;
mod read;
mod status;
mod suggest;
mod target;
mod template;
mod tree;

pub use address::{AddressFilter, AddressFilterError, Host, Transport};
pub use decode::{
    FlagOr, JqProgram, JsonPathQuery, OneOrMany, Opaque, Ordered, PathPattern, Pattern, PortPair, Quantity,
    Short,
};
pub use form::{Field, Form};
pub use generate::{Setting, json_schema, settings, settings_page};
pub use inputs::Inputs;
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

/// Reads and checks a config text with nothing around it: templates see no environment.
#[must_use]
pub fn parse(text: &str, format: Format) -> Parsed {
    parse_with(text, format, &Inputs::default())
}

/// Reads and checks a config text: renders its templates, puts the environment's `MIRRORD_…` variables over it, and
/// judges the result.
#[must_use]
pub fn parse_with(text: &str, format: Format, inputs: &Inputs) -> Parsed {
    if !template::is_template(text) {
        return judge(text, format, inputs);
    }
    // The file's own `key` may be used anywhere in the file, and may itself be made from the branch: it is read
    // from a first rendering. A made-up key only matters where the file has none.
    let first_key = inputs.given_key().unwrap_or(&inputs.made_up_key).to_owned();
    let rendered = template::render(text, &first_key, inputs).and_then(|first| {
        let own_key = if inputs.given_key().is_none() { file_key(&first, format) } else { None };
        match own_key {
            Some(key) if key != first_key => template::render(text, &key, inputs),
            _ => Ok(first),
        }
    });
    match rendered {
        Ok(rendered) => {
            let mut parsed = judge(&rendered, format, inputs);
            for problem in &mut parsed.problems {
                problem.range = template::original_range(problem.range, &rendered, text);
            }
            parsed
        }
        Err(error) => {
            let mut context = Context::new(text);
            let span = error.offset..error.offset;
            context.error(
                Code::Template,
                "",
                span,
                format!("the template cannot be rendered: {}", error.message),
            );
            Parsed { config: None, problems: context.into_problems() }
        }
    }
}

/// The `key` of a rendered file.
fn file_key(text: &str, format: Format) -> Option<String> {
    let tree = read::read(text, format, &mut Context::new(text))?;
    match &tree.entry("key")?.value.value {
        tree::Value::Text(key) => Some(key.clone()),
        _ => None,
    }
}

fn judge(text: &str, format: Format, inputs: &Inputs) -> Parsed {
    let mut context = Context::new(text);
    let config = read::read(text, format, &mut context).and_then(|mut tree| {
        inputs::apply(&mut tree, inputs, &mut context);
        let config = MirrordConfig::decode(&tree, &At::root(), &mut context)?;
        check::check(&config, &tree, &mut context);
        Some(config)
    });
    let mut problems = context.into_problems();
    problems.sort_by(|a, b| (a.range.start, a.severity, &a.path).cmp(&(b.range.start, b.severity, &b.path)));
    let failed = problems.iter().any(|problem| problem.severity == Severity::Error);
    Parsed { config: config.filter(|_| !failed), problems }
}
