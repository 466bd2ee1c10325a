//! `schemas/ide-protocol.schema.json` is the editors' wire for programs that are not written in Rust: made from the
//! declarations, committed, compared here. The types of the VS Code extension are made from it. After a change to the
//! wire, run `UPDATE_GENERATED=1 cargo test -p protocol` and commit the file.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use protocol::ide::*;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;

fn crate_folder() -> PathBuf {
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap())
}

/// What a client sends is described as the daemon reads it, what it is told as the daemon writes it.
struct Document {
    sent: SchemaGenerator,
    told: SchemaGenerator,
    methods: Map<String, Value>,
    notifications: Map<String, Value>,
}

impl Document {
    fn method<M>(&mut self)
    where
        M: Method<Params: JsonSchema, Answer: JsonSchema> + JsonSchema,
    {
        let entry = json!({
            "description": doc_of::<M>(),
            "params": self.sent.subschema_for::<M::Params>(),
            "answer": self.told.subschema_for::<M::Answer>(),
        });
        self.methods.insert(M::NAME.to_owned(), entry);
    }

    fn notification<N>(&mut self)
    where
        N: Notice<Params: JsonSchema> + JsonSchema,
    {
        let entry = json!({
            "description": doc_of::<N>(),
            "params": self.told.subschema_for::<N::Params>(),
        });
        self.notifications.insert(N::NAME.to_owned(), entry);
    }

    /// The types of both directions. One that goes both ways must look the same in both, as it has one name.
    fn types(&mut self) -> Map<String, Value> {
        let mut types = self.told.take_definitions(true);
        for (name, sent) in self.sent.take_definitions(true) {
            let told = types.insert(name.clone(), sent.clone());
            assert!(told.is_none_or(|told| told == sent), "{name} is sent in one form and told in another");
        }
        types
    }
}

/// The doc comment of a declaration.
fn doc_of<T: JsonSchema>() -> Value {
    schemars::schema_for!(T).get("description").cloned().unwrap()
}

fn document() -> Value {
    // What is absent is empty, false or null throughout: said field by field it would bury the types.
    let no_defaults = RecursiveTransform(|schema: &mut Schema| _ = schema.remove("default"));
    let settings = SchemaSettings::draft2020_12().with_transform(no_defaults);
    let mut document = Document {
        sent: settings.clone().for_deserialize().into_generator(),
        told: settings.for_serialize().into_generator(),
        methods: Map::new(),
        notifications: Map::new(),
    };
    document.method::<ConfigVerify>();
    document.method::<DaemonStatus>();
    document.method::<DaemonStop>();
    document.method::<NamespaceList>();
    document.method::<SessionAttach>();
    document.method::<SessionForget>();
    document.method::<SessionList>();
    document.method::<SessionPlan>();
    document.method::<SessionRedeem>();
    document.method::<SessionStart>();
    document.method::<SessionStop>();
    document.method::<SessionSubscribe>();
    document.method::<SessionExplain>();
    document.method::<TargetList>();
    document.notification::<SessionNews>();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The editor's wire",
        "description": "The messages between editors and mirrord-ide's daemon; docs/protocol-ide.md says how they travel.",
        "initialize": {
            "initializationOptions": document.sent.subschema_for::<ClientOptions>(),
            "capabilities.experimental.ide": document.told.subschema_for::<DaemonOptions>(),
        },
        "error": { "data": document.told.subschema_for::<ErrorFields>() },
        "progress": {
            "workDoneToken": document.told.subschema_for::<WorkProgress>(),
            "partialResultToken": document.told.subschema_for::<TargetBatch>(),
        },
        // After everything that names types.
        "$defs": document.types(),
        "methods": document.methods,
        "notifications": document.notifications,
    })
}

#[test]
fn the_committed_schema_is_that_of_the_types() {
    let file = crate_folder().join("../ide-protocol.schema.json");
    let now = format!("{}\n", serde_json::to_string_pretty(&document()).unwrap());
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::write(&file, &now).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == now,
        "ide-protocol.schema.json is not what the types say; run with UPDATE_GENERATED=1 and commit it"
    );
}

#[test]
fn every_method_and_notification_is_in_the_schema() {
    let document = document();
    let tables = ["methods", "notifications"].map(|table| document[table].as_object().unwrap());
    let found: BTreeSet<&str> = tables.iter().flat_map(|table| table.keys()).map(String::as_str).collect();
    let sources = std::fs::read_dir(crate_folder().join("src/ide")).unwrap();
    let sources: String =
        sources.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    let names = sources.lines().filter_map(|line| line.trim().strip_prefix("const NAME: &'static str = "));
    let declared: BTreeSet<&str> = names.map(|name| name.trim_matches(['"', ';'])).collect();
    assert_eq!(found, declared);
}
