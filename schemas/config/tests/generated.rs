//! What is generated from the types is committed, and these tests compare it: after a change to the settings, run
//! `UPDATE_GENERATED=1 cargo test -p config-schema` and commit the files it writes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("../..")
}

fn same(path: &str, now: &str) {
    let file = root().join(path);
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::write(&file, now).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(committed == now, "{path} is not what the types say; run with UPDATE_GENERATED=1 and commit it");
}

#[test]
fn the_committed_schema_is_that_of_the_types() {
    let schema = serde_json::to_string_pretty(&config_schema::json_schema()).unwrap();
    same("schemas/mirrord-schema.json", &format!("{schema}\n"));
}

#[test]
fn the_settings_page_is_that_of_the_types() {
    same("docs/config.md", &config_schema::settings_page());
}
