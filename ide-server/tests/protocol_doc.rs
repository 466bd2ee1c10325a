//! `docs/protocol-ide.md` is made from the doc comments of `protocol::ide` and compared here. `UPDATE=1` writes it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use protocol::ide::ErrorKind;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// One declaration of the sources: its comment, its first line, and its members with theirs.
struct Item {
    doc: Vec<String>,
    head: String,
    members: Vec<(Vec<String>, String)>,
    name_on_wire: Option<String>,
    /// What is sent and what comes back.
    types: Vec<(&'static str, String)>,
}

fn repository() -> PathBuf {
    Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("..")
}

/// Reads declarations as rustfmt writes them: members are indented by four, variants' fields by eight.
fn read(file: &str) -> Vec<Item> {
    let path = repository().join("schemas/protocol/src/ide").join(file);
    let text = std::fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]").next().unwrap();
    let (mut items, mut doc): (Vec<Item>, Vec<String>) = (Vec::new(), Vec::new());
    let mut open = false;
    for line in text.lines() {
        let (indent, line) = (line.len() - line.trim_start().len(), line.trim());
        if let Some(comment) = line.strip_prefix("///") {
            doc.push(comment.trim().to_owned());
        } else if line.starts_with("pub enum ") || line.starts_with("pub struct ") {
            open = line.ends_with('{');
            let head = line.trim_end_matches(['{', '}', ';', ' ']).to_owned();
            items.push(Item {
                doc: std::mem::take(&mut doc),
                head,
                members: Vec::new(),
                name_on_wire: None,
                types: Vec::new(),
            });
        } else if line.starts_with("const NAME: &'static str") {
            let name = line.split('"').nth(1).unwrap().to_owned();
            items.last_mut().unwrap().name_on_wire = Some(name);
        } else if let Some((what, kind)) = line.strip_prefix("type ").and_then(|line| line.split_once(" = "))
        {
            let what = if what == "Params" { "parameters" } else { "answer" };
            items.last_mut().unwrap().types.push((what, kind.trim_end_matches(';').to_owned()));
        } else if line == "}" && indent == 0 {
            open = false;
            doc.clear();
        } else if line.starts_with("impl ") {
            doc.clear();
        } else if open && indent == 4 && !line.starts_with('#') && line != "}" && line != "}," {
            let member = line.trim_start_matches("pub ").trim_end_matches([',', '{', ' ']).to_owned();
            items.last_mut().unwrap().members.push((std::mem::take(&mut doc), member));
        } else if open && indent == 8 && !line.starts_with('#') && line.ends_with(',') {
            let text = format!("… {}", line.trim_end_matches(','));
            items.last_mut().unwrap().members.push((std::mem::take(&mut doc), text));
        } else if !line.starts_with('#') && !line.is_empty() && !open {
            doc.clear();
        }
    }
    items
}

/// `work_done_token` as it stands on the wire.
fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let mut text = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        text.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        text.push_str(letters.as_str());
    }
    text
}

fn members(text: &mut String, item: &Item) {
    for (doc, member) in &item.members {
        let (name, kind) = member.split_once(": ").unwrap_or((member, ""));
        let name = if kind.is_empty() { name.to_owned() } else { camel_case(name) };
        let kind = if kind.is_empty() { String::new() } else { format!(" (`{kind}`)") };
        writeln!(text, "- `{name}`{kind}: {}", doc.join(" ")).unwrap();
    }
}

fn document() -> String {
    let files = [
        "config.rs",
        "target.rs",
        "session.rs",
        "explain.rs",
        "plan.rs",
        "daemon.rs",
        "progress.rs",
        "error.rs",
    ];
    let items: Vec<Item> = files.iter().flat_map(|file| read(file)).collect();
    let mut text = "# The editor's wire\n\nGenerated from `schemas/protocol/src/ide` by `ide-server/tests/protocol_doc.rs`; \
         do not edit.\n\nJSON-RPC 2.0 with LSP framing (`Content-Length` headers) on the Unix socket that `mirrord-ide serve \
         --ensure` prints. `initialize`, `initialized`, `shutdown`, `exit`, `$/cancelRequest` and `$/progress` keep their \
         LSP meaning. Unknown fields are skipped, absent ones have defaults.\n\nScripts may use the second socket that it \
         prints, `httpSocket`: the same methods over HTTP (one request a POST) and WebSocket, without framing of their own. \
         A connection is one client: what it asked for is taken back when it closes. `initialize` is optional there. A \
         WebSocket that has called `daemon/subscribe` is told the notifications of its requests as `daemon/notification` \
         with `params.result` = `{method, params}`; plain HTTP has none. No TCP port is ever opened.\n\n```sh\n\
         curl --unix-socket \"$(mirrord-ide serve --ensure | jq -r .httpSocket)\" http://localhost/ \\\n  \
         -H 'Content-Type: application/json' -d '{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"session/list\"}'\n```\n\n## \
         Methods\n"
        .to_owned();
    for item in items.iter().filter(|item| item.name_on_wire.is_some()) {
        let name = item.name_on_wire.as_deref().unwrap();
        let types: Vec<String> = item.types.iter().map(|(what, kind)| format!("{what} `{kind}`")).collect();
        let doc = item.doc.join("\n");
        writeln!(text, "\n### `{name}`\n\n{}\n\nTypes: {}", doc.trim(), types.join(", ")).unwrap();
    }
    text.push_str("\n## Types\n");
    for item in items.iter().filter(|item| item.name_on_wire.is_none() && !item.members.is_empty()) {
        let name = item.head.rsplit(' ').next().unwrap();
        writeln!(text, "\n### {name}\n\n{}\n", item.doc.join("\n").trim()).unwrap();
        members(&mut text, item);
    }
    text.push_str("\n## Errors\n\n`error.data` is an ErrorFields; `error.code` and the command line's exit status follow from `kind`.\n\n");
    text.push_str("| kind | code | exit status |\n|---|---|---|\n");
    for kind in ErrorKind::ALL {
        writeln!(text, "| `{}` | {} | {} |", kind.word(), kind.code(), kind.exit_status()).unwrap();
    }
    text
}

#[test]
fn the_document_is_what_the_types_say() {
    let path = repository().join("docs/protocol-ide.md");
    let document = document();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &document).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == document, "docs/protocol-ide.md is stale: run this test with UPDATE=1 and commit it");
}

#[test]
fn every_method_of_the_table_is_in_the_document() {
    let document = document();
    for name in ide_server::rpc::service::method_names() {
        assert!(document.contains(&format!("\n### `{name}`\n")), "{name} has no section");
    }
}
