//! The JSON schema and the settings page, made from the declarations.

use std::fmt::Write as _;

use crate::decode::Decode;
use crate::form::Form;
use crate::tree::join;
use crate::{MirrordConfig, Status, status, status_of};

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
    /// What becomes of it.
    pub status: Status,
    /// What a user should know of that; may be empty.
    pub note: &'static str,
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
         and *no effect* have nothing to act on here.\n",
    );
    let all = settings();
    let mut section = String::new();
    for setting in &all {
        let head = head(&setting.path);
        if head != section {
            section = head;
            let _ = write!(
                page,
                "\n## {section}\n\n| Key | Type | Default | Meaning | Status |\n|---|---|---|---|---|\n"
            );
        }
        let note = if setting.note.is_empty() { String::new() } else { format!(": {}", setting.note) };
        let default =
            if setting.default.is_empty() { String::new() } else { format!("`{}`", setting.default) };
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} | {}{} |",
            setting.path,
            cell(&setting.kind),
            cell(&default),
            cell(&setting.doc),
            setting.status.as_str(),
            cell(&note),
        );
    }
    page
}

/// The section a setting stands in.
fn head(path: &str) -> String {
    let depth = match path {
        path if path.starts_with("feature.network.") => 3,
        path if path.starts_with("feature.") => 2,
        _ => 1,
    };
    let parts: Vec<&str> = path.split('.').collect();
    if parts.len() == 1 && !has_inside(path) {
        return "The root".to_owned();
    }
    let depth = depth.min(parts.len());
    format!("`{}`", parts.get(..depth).unwrap_or_default().join("."))
}

fn has_inside(key: &str) -> bool {
    MirrordConfig::form().fields.iter().any(|field| field.key == key && !field.form.fields.is_empty())
}

/// Text for a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
