//! "Did you mean": for a key that no setting has, the one that was likely meant, by spelling among its neighbours
//! or by name elsewhere in the config.

use std::sync::LazyLock;

use crate::Code;
use crate::MirrordConfig;
use crate::decode::{Context, Decode};
use crate::form::Form;
use crate::tree::{At, Entry, general, join};

/// Reports a key that no setting has. What is inside it is not looked at: one mistake is one problem.
pub(crate) fn unknown_key(at: &At, entry: &Entry, siblings: &[&str], context: &mut Context<'_>) {
    let place = join(&at.path, &entry.key);
    let holder = if at.path.is_empty() { "the root" } else { &at.path };
    let span = entry.key_span.clone();
    if let Some(sibling) = nearest(&entry.key, siblings) {
        let meant = join(&at.path, sibling);
        context
            .error(
                Code::UnknownKey,
                &place,
                span,
                format!("unknown key `{}`; did you mean {meant}?", entry.key),
            )
            .help(format!("rename it to `{sibling}`"))
            .suggest(meant);
        return;
    }
    if let Some(meant) = elsewhere(&at.path, &entry.key) {
        let there = if meant.contains('.') { meant.clone() } else { format!("{meant} at the root") };
        context
            .error(
                Code::UnknownKey,
                &place,
                span,
                format!("unknown key `{}`; did you mean {there}?", entry.key),
            )
            .help(format!("`{}` is not a key of {holder}; move it to {there}", entry.key))
            .suggest(meant);
        return;
    }
    context
        .error(Code::UnknownKey, &place, span, format!("unknown key `{}`", entry.key))
        .help(format!("the keys of {holder} are {}", siblings.join(", ")));
}

/// The candidate that a word is a likely misspelling of.
pub(crate) fn nearest<'c>(word: &str, candidates: &[&'c str]) -> Option<&'c str> {
    let plain = squeeze(word);
    candidates
        .iter()
        .map(|candidate| {
            let other = squeeze(candidate);
            let distance = strsim::osa_distance(&plain, &other);
            (distance, other.len().max(plain.len()), *candidate)
        })
        // A third of the letters may differ, at most three: `incomming`, `port`, `kubeContext`.
        .filter(|(distance, length, _)| *distance <= 3 && distance * 3 <= *length)
        .min_by_key(|(distance, _, _)| *distance)
        .map(|(_, _, candidate)| candidate)
}

/// Case and word separators aside, so that `kubeContext` is `kube_context`.
fn squeeze(word: &str) -> String {
    word.chars().filter(|character| character.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// The setting of that name which stands nearest to `path`.
fn elsewhere(path: &str, key: &str) -> Option<String> {
    static PATHS: LazyLock<Vec<String>> = LazyLock::new(|| {
        let mut paths = Vec::new();
        collect(&MirrordConfig::form(), "", &mut paths);
        paths
    });
    let here = general(path);
    let word = squeeze(key);
    // First by the very name; then by spelling, for names long enough that a likeness means something.
    let by_name = |known: &str| squeeze(known) == word;
    let by_spelling = |known: &str| word.len() >= 6 && strsim::osa_distance(&squeeze(known), &word) == 1;
    let closest = |matches: &dyn Fn(&str) -> bool| {
        PATHS
            .iter()
            // A setting inside a list has no one place to point to.
            .filter(|known| !known.contains("[]") && matches(known.rsplit('.').next().unwrap_or(known)))
            .min_by_key(|known| {
                let shared = here.split('.').zip(known.split('.')).take_while(|(a, b)| a == b).count();
                (std::cmp::Reverse(shared), known.matches('.').count())
            })
            .cloned()
    };
    closest(&by_name).or_else(|| closest(&by_spelling))
}

fn collect(form: &Form, path: &str, paths: &mut Vec<String>) {
    let path = if form.is_list { format!("{path}[]") } else { path.to_owned() };
    for field in &form.fields {
        let inner = join(&path, field.key);
        collect(&field.form, &inner, paths);
        paths.push(inner);
    }
}
