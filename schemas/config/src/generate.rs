//! The JSON schema and the settings page, made from the declarations.

use std::fmt::Write as _;

use crate::decode::Decode;
use crate::form::Form;
use crate::tree::join;
use crate::{MirrordConfig, Status, inputs, status, status_of};

/// One setting, as the settings page and an editor's completion show it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Setting {
    /// The dotted path; `[]` stands for the items of a list.
    pub path: String,
    /// What it may be, in words.
    pub kind: String,
    /// The words it may be, where it is one of a few.
    pub values: Vec<&'static str>,
    /// What holds when it is absent; empty if nothing does.
    pub default: &'static str,
    /// What it means.
    pub doc: String,
    /// What becomes of it; `None` where it only holds others.
    pub status: Option<Status>,
    /// What a user should know of that; may be empty.
    pub note: &'static str,
    /// The environment variable that stands over it.
    pub variable: Option<&'static str>,
}

/// Every setting, in the order of the declarations.
#[must_use]
pub fn settings() -> Vec<Setting> {
    let mut all = Vec::new();
    collect(&MirrordConfig::form(), "", &mut all);
    all
}

fn collect(form: &Form, path: &str, all: &mut Vec<Setting>) {
    let path = if form.is_list { format!("{path}[]") } else { path.to_owned() };
    for field in &form.fields {
        let inner = join(&path, field.key);
        all.push(Setting {
            path: inner.clone(),
            kind: field.form.kind.clone(),
            values: field.form.values.clone(),
            default: field.default,
            doc: one_line(&field.doc),
            status: status_of(&inner),
            note: status::note_of(&inner),
            variable: inputs::variable_of(&inner),
        });
        collect(&field.form, &inner, all);
    }
}

fn one_line(doc: &str) -> String {
    doc.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The JSON schema of `mirrord.json`, for editors.
#[must_use]
pub fn json_schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(MirrordConfig).to_value();
    if let Some(object) = schema.as_object_mut() {
        object.insert("title".to_owned(), "mirrord.json".into());
        if let Some(properties) = object.get_mut("properties").and_then(serde_json::Value::as_object_mut) {
            properties.insert(
                "$schema".to_owned(),
                serde_json::json!({ "type": "string", "description": "Where the schema of this file is." }),
            );
        }
    }
    schema
}

/// `docs/config.md`.
#[must_use]
pub fn settings_page() -> String {
    let mut page = String::from(
        "# mirrord.json\n\n\
         <!-- Generated from schemas/config; `UPDATE_GENERATED=1 cargo test -p config-schema` writes it. -->\n\n\
         Every setting that may stand in `mirrord.json`, `mirrord.toml` or `mirrord.yaml`. All are optional. \
         `mirrord-ide verify-config FILE` says what is wrong with a file and which of its settings have no \
         effect.\n\n\
         Status: *works* does what it says; *not yet* is read, and a warning says that it has no effect yet; \
         *paid in mirrord* belongs to mirrord's paid operator, a warning says what is done instead; *macOS only* \
         and *no effect* have nothing to act on here.\n\n\
         An environment variable named with a setting stands over the file; lists in it have `;` between. The \
         file may hold templates in Tera's language, rendered before it is read: `{{ key }}` is the session's key, \
         `{{ git_branch }}` the repository's branch (`MIRRORD_BRANCH_NAME` stands over it), \
         `{{ get_env(name=\"X\", default=\"y\") }}` an environment variable.\n",
    );
    let all = settings();
    let mut sections: Vec<String> = Vec::new();
    for setting in &all {
        let section = section_of(&setting.path);
        if !sections.contains(&section) {
            sections.push(section);
        }
    }
    for section in &sections {
        let title = if section.is_empty() { "The root".to_owned() } else { format!("`{section}`") };
        let _ = write!(
            page,
            "\n## {title}\n\n| Key | Type | Default | Meaning | Status |\n|---|---|---|---|---|\n"
        );
        for setting in all.iter().filter(|setting| section_of(&setting.path) == *section) {
            line(setting, &mut page);
        }
    }
    page
}

fn line(setting: &Setting, page: &mut String) {
    let default = if setting.default.is_empty() { String::new() } else { format!("`{}`", setting.default) };
    let mut status = setting.status.map_or("", Status::as_str).to_owned();
    if !setting.note.is_empty() {
        let _ = write!(status, ": {}", setting.note);
    }
    let variable = setting.variable.map(|name| format!(" Environment: `{name}`.")).unwrap_or_default();
    let _ = writeln!(
        page,
        "| `{}` | {} | {} | {} | {} |",
        setting.path,
        cell(&setting.kind),
        cell(&default),
        cell(&format!("{}{variable}", setting.doc)),
        cell(&status),
    );
}

/// The section that a setting stands in: the object it belongs to, down to the third level below `feature.network`
/// and to the second below `feature`.
fn section_of(path: &str) -> String {
    let holder = path.rsplit_once('.').map_or("", |(holder, _)| holder);
    let depth = match holder {
        holder if holder.starts_with("feature.network.") => 3,
        holder if holder.starts_with("feature.") => 2,
        _ => 1,
    };
    holder.split('.').take(depth).collect::<Vec<_>>().join(".")
}

/// Text for a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
