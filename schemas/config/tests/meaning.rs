//! What a config means once it is read: defaults, short forms, switches, targets.

#![expect(clippy::panic, reason = "a test that cannot go on fails")]

use std::time::Duration;

use config_schema::{
    EnvPlan, FileMode, Format, IncomingMode, MirrordConfig, Replicas, Setting, Target, WorkloadKind, parse,
    settings,
};
use expect_test::expect;

fn config(text: &str) -> MirrordConfig {
    let parsed = parse(text, Format::Json);
    parsed.config.unwrap_or_else(|| panic!("{text}: {:?}", parsed.problems))
}

#[test]
fn an_empty_config_has_the_documented_defaults() {
    let config = config("{}");
    assert_eq!(config.target(), None);
    assert_eq!(config.target_namespace(), None);
    assert_eq!(config.replicas(), Replicas::All);
    assert_eq!(config.env(), EnvPlan::Default);
    assert_eq!(config.file_mode(), FileMode::Declared);
    assert_eq!(config.incoming_mode(), IncomingMode::Mirror);
    assert!(config.outgoing_tcp() && config.outgoing_udp() && config.remote_dns());
    assert!(config.hostname() && config.ipv6() && config.use_proxy());
    assert_eq!(config.skip_processes().count(), 0);
    let agent = config.agent();
    assert_eq!(agent.image_reference(), None);
    assert_eq!(agent.image_pull_policy().as_str(), "IfNotPresent");
    assert_eq!(agent.log_level(), "info");
    assert!(!agent.ephemeral());
    assert_eq!(agent.startup_timeout(), Duration::from_secs(60));
    assert_eq!((agent.idle(false).as_secs(), agent.idle(true).as_secs()), (60, 600));
}

#[test]
fn file_modes_keep_their_names_and_true_or_nothing_is_ours() {
    let mode = |fs: &str| config(&format!("{{\"feature\":{{\"fs\":{fs}}}}}")).file_mode();
    assert_eq!(mode("true"), FileMode::Declared);
    assert_eq!(mode("{}"), FileMode::Declared);
    assert_eq!(mode("{\"local\": \"x\"}"), FileMode::Declared);
    assert_eq!(mode("null"), FileMode::Declared);
    assert_eq!(mode("false"), FileMode::Local);
    assert_eq!(mode("\"local\""), FileMode::Local);
    assert_eq!(mode("\"read\""), FileMode::Read);
    assert_eq!(mode("{\"mode\": \"read\"}"), FileMode::Read);
}

#[test]
fn incoming_traffic_is_switched_by_flag_word_or_object() {
    let mode = |incoming: &str| {
        config(&format!("{{\"feature\":{{\"network\":{{\"incoming\":{incoming}}}}}}}")).incoming_mode()
    };
    assert_eq!(mode("true"), IncomingMode::Mirror);
    assert_eq!(mode("false"), IncomingMode::Off);
    assert_eq!(mode("\"steal\""), IncomingMode::Steal);
    assert_eq!(mode("{\"mode\": \"off\"}"), IncomingMode::Off);
    assert_eq!(mode("{}"), IncomingMode::Mirror);
    assert_eq!(config("{\"target\": \"targetless\"}").incoming_mode(), IncomingMode::Off);
    assert_eq!(config("{\"feature\": {\"network\": false}}").incoming_mode(), IncomingMode::Off);
}

#[test]
fn a_steal_whose_filter_is_not_obeyed_takes_no_request() {
    let config = config(
        "{\"feature\": {\"network\": {\"incoming\": {\"mode\": \"steal\", \"http_filter\": {\"path_filter\": \"/x\"}}}}}",
    );
    assert_eq!(config.asked_incoming_mode(), IncomingMode::Steal);
    let obeyed = config_schema::status_of("feature.network.incoming.http_filter.path_filter")
        == Some(config_schema::Status::Implemented);
    let expected = if obeyed { IncomingMode::Steal } else { IncomingMode::Mirror };
    assert_eq!(config.incoming_mode(), expected);
}

#[test]
fn a_steal_by_a_header_is_a_steal() {
    let config = config(
        "{\"feature\": {\"network\": {\"incoming\": {\"mode\": \"steal\", \"http_filter\": \
         {\"header_filter\": \"^x-debug: me$\", \"ports\": [80]}}}}}",
    );
    assert_eq!(config.incoming_mode(), IncomingMode::Steal);
}

#[test]
fn the_network_switch_turns_every_part_off() {
    let config = config("{\"feature\": {\"network\": false}}");
    assert!(!config.outgoing_tcp() && !config.outgoing_udp() && !config.remote_dns());
}

#[test]
fn outgoing_and_names_are_switched_by_flag_or_object() {
    let config = config(
        "{\"feature\": {\"network\": {\"outgoing\": {\"udp\": false}, \"dns\": {\"enabled\": false}}}}",
    );
    assert!(config.outgoing_tcp() && !config.outgoing_udp() && !config.remote_dns());
    let off = self::config("{\"feature\": {\"network\": {\"outgoing\": false, \"dns\": false}}}");
    assert!(!off.outgoing_tcp() && !off.outgoing_udp() && !off.remote_dns());
}

#[test]
fn lists_may_be_one_text_with_semicolons() {
    let config =
        config("{\"skip_processes\": \"a;b\", \"feature\": {\"env\": {\"exclude\": [\"X_*\", \"Y; Z\"]}}}");
    assert_eq!(config.skip_processes().collect::<Vec<_>>(), ["a", "b"]);
    let EnvPlan::With(env) = config.env() else { panic!("the settings are there") };
    assert_eq!(env.exclude().collect::<Vec<_>>(), ["X_*", "Y", "Z"]);
    assert_eq!(self::config("{\"feature\": {\"env\": false}}").env(), EnvPlan::Off);
}

#[test]
fn ports_are_mapped_and_chosen() {
    let config = config(
        "{\"feature\": {\"network\": {\"incoming\": {\"port_mapping\": [[8080, 80]], \"listen_ports\": [[80, 8081]], \
         \"ports\": [8080]}}}}",
    );
    let incoming = config.incoming();
    assert_eq!((incoming.remote_port(8080), incoming.remote_port(9)), (80, 9));
    assert_eq!((incoming.actual_port(80), incoming.actual_port(9)), (8081, 9));
    assert!(incoming.serves(8080) && !incoming.serves(9));
}

#[test]
fn an_image_may_be_one_text_or_two_parts() {
    let image =
        |image: &str| config(&format!("{{\"agent\": {{\"image\": {image}}}}}")).agent().image_reference();
    assert_eq!(image("\"r/a:1\"").as_deref(), Some("r/a:1"));
    assert_eq!(image("{\"registry\": \"r/a\", \"tag\": \"1\"}").as_deref(), Some("r/a:1"));
    assert_eq!(image("{\"registry\": \"r/a\"}").as_deref(), Some("r/a"));
}

#[test]
fn a_target_is_the_same_in_every_form() {
    let shop = Target::Workload {
        kind: WorkloadKind::StatefulSet,
        name: "shop".to_owned(),
        container: Some("web".to_owned()),
    };
    for target in [
        "\"statefulset/shop/container/web\"",
        "{\"path\": \"sts/shop/container/web\"}",
        "{\"path\": {\"stateful_set\": \"shop\", \"container\": \"web\"}}",
        "{\"stateful_set\": \"shop\", \"container\": \"web\"}",
    ] {
        let config = config(&format!("{{\"target\": {target}}}"));
        assert_eq!(config.target(), Some(&shop), "{target}");
    }
    let namespaced = config("{\"target\": {\"namespace\": \"prod\"}}");
    assert_eq!((namespaced.target(), namespaced.target_namespace()), (None, Some("prod")));
    let labels = config("{\"target\": {\"labels\": {\"app\": \"shop\"}}}");
    assert_eq!(labels.target().unwrap().to_string(), "label/app=shop");
}

#[test]
fn files_are_told_apart_by_their_extension() {
    assert_eq!(Format::of_file_name("/x/.mirrord/mirrord.json"), Some(Format::Json));
    assert_eq!(Format::of_file_name("mirrord.TOML"), Some(Format::Toml));
    assert_eq!(Format::of_file_name("a.b/mirrord.yml"), Some(Format::Yaml));
    assert_eq!(Format::of_file_name("a.b/mirrord"), Some(Format::Json));
    assert_eq!(Format::of_file_name("mirrord.ini"), None);
}

#[test]
fn a_problem_is_plain_json_for_tools() {
    let parsed = parse("{\"targt\": 1}", Format::Json);
    expect![[r#"
        [
          {
            "severity": "error",
            "code": "unknown-key",
            "path": "targt",
            "message": "unknown key `targt`; did you mean target?",
            "help": "rename it to `target`",
            "suggestion": "target",
            "range": {
              "start": {
                "line": 0,
                "character": 1
              },
              "end": {
                "line": 0,
                "character": 8
              }
            }
          }
        ]"#]]
    .assert_eq(&serde_json::to_string_pretty(&parsed.problems).unwrap());
}

#[test]
fn every_setting_is_documented_and_stands_in_a_fixture_that_is_accepted() {
    let folder =
        std::path::Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("../fixtures/config");
    let mut seen = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.starts_with("good-") || name.ends_with(".expected") {
            continue;
        }
        let parsed = parse(&std::fs::read_to_string(&path).unwrap(), Format::of_file_name(&name).unwrap());
        let config = parsed.config.unwrap_or_else(|| panic!("{name}: {:?}", parsed.problems));
        paths(&serde_json::to_value(config).unwrap(), "", &mut seen);
    }
    let all: Vec<Setting> = settings();
    for setting in &all {
        assert!(!setting.doc.is_empty(), "{} has no meaning", setting.path);
        // The forms of a target become one when read; they have a test of their own.
        let is_target_form = setting.path.starts_with("target.")
            && !["target.path", "target.namespace", "target.replicas"].contains(&setting.path.as_str());
        assert!(is_target_form || seen.contains(&setting.path), "{} is in no good-* fixture", setting.path);
    }
}

fn paths(value: &serde_json::Value, path: &str, seen: &mut std::collections::BTreeSet<String>) {
    seen.insert(path.to_owned());
    match value {
        serde_json::Value::Object(entries) => {
            for (key, value) in entries {
                let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                paths(value, &inner, seen);
            }
        }
        serde_json::Value::Array(items) => {
            for item in items {
                paths(item, &format!("{path}[]"), seen);
            }
        }
        _ => {}
    }
}
