//! What a config and a pod's spec come to.

use super::*;
use crate::agents::{AgentSpec, local::LocalSpec};
use crate::config;
use crate::target::Declared;
use protocol::host::TargetSummary;
use protocol::ide::ConfigSource;

fn resolved(text: &str) -> Resolved {
    let env = BTreeMap::from([("HOME".to_owned(), "/home/jane".to_owned())]);
    let (text, folder) = (Some(text.to_owned()), "/home/jane/shop".to_owned());
    config::resolve(&ConfigSource { folder, text, env, ..ConfigSource::default() }).unwrap()
}

fn chosen(declared: Option<Declared>) -> Chosen {
    let spec = LocalSpec { pid: 1, start_time: 1, log_level: "info".to_owned() };
    Chosen {
        summary: TargetSummary::default(),
        agent: AgentSpec::Local(spec),
        declared,
        identity: String::new(),
        notices: Vec::new(),
    }
}

fn pod() -> Chosen {
    chosen(Some(Declared {
        env: Some(vec!["GREETING".to_owned()]),
        mounts: vec!["/etc/settings".to_owned()],
        ports: vec![8080, 9000],
    }))
}

/// Where the first rule that fits puts a path, by the same reading as the session host's.
fn place(plan: &FilePlan, path: &str) -> Place {
    let fits = |rule: &&FileRule| match rule.pattern {
        PathPattern::Exact => rule.text == path,
        PathPattern::Tree => {
            path.strip_prefix(&rule.text).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
        PathPattern::Regex => regex::Regex::new(&format!("(?i){}", rule.text)).unwrap().is_match(path),
    };
    plan.rules.iter().find(fits).map_or(plan.fallback, |rule| rule.place)
}

#[test]
fn by_default_the_pods_declared_files_are_read_there_and_all_else_is_local() {
    let plan = files(&resolved("{}"), &pod());
    assert!(plan.enabled && !plan.discovered_mounts);
    assert_eq!(place(&plan, "/etc/settings/a/b"), Place::RemoteRead);
    assert_eq!(place(&plan, "/etc/settings2"), Place::Local);
    assert_eq!(place(&plan, "/etc/resolv.conf"), Place::RemoteRead);
    assert_eq!(place(&plan, "/home/jane/.kube/config"), Place::Local);
    assert!(files(&resolved("{}"), &chosen(None)).discovered_mounts, "a local target has no spec");
}

#[test]
fn lists_decide_before_anything_else_and_in_their_order() {
    let text = r#"{"feature": {"fs": {
        "not_found": ["/secret"], "read_write": ["/etc/settings/w"], "local": ["/etc/settings"]
    }}}"#;
    let plan = files(&resolved(text), &pod());
    assert_eq!(place(&plan, "/etc/settings/secret"), Place::Hidden);
    assert_eq!(place(&plan, "/etc/settings/w"), Place::Remote);
    assert_eq!(place(&plan, "/etc/settings/r"), Place::Local);
}

#[test]
fn mappings_keep_the_order_of_the_file() {
    let text = r#"{"feature": {"fs": {"mapping": {"^/z": "/1", "^/a": "/2", "^/m(.*)": "/3$1"}}}}"#;
    let mapping = files(&resolved(text), &pod()).mapping;
    let told: Vec<_> = mapping.iter().map(|one| (&*one.pattern, &*one.replacement)).collect();
    assert_eq!(told, [("^/z", "/1"), ("^/a", "/2"), ("^/m(.*)", "/3$1")]);
}

#[test]
fn write_mode_writes_to_the_pod_and_local_with_overrides_only_reads_its_mounts() {
    let write = resolved(r#"{"feature": {"fs": "write"}}"#);
    let plan = files(&write, &pod());
    assert_eq!((place(&plan, "/data/x"), place(&plan, "/etc/hosts")), (Place::Remote, Place::RemoteRead));
    let overrides = resolved(r#"{"feature": {"fs": "localwithoverrides"}}"#);
    let plan = files(&overrides, &pod());
    assert_eq!((place(&plan, "/data/x"), plan.fallback), (Place::Local, Place::Local));
    assert_eq!(place(&plan, "/etc/settings/a"), Place::RemoteReadLocalWrite);
    let listed = resolved(r#"{"feature": {"fs": {"read_write": ["^/data"]}}}"#);
    let local = resolved(r#"{"feature": {"fs": {"mode": "local", "read_write": ["^/data"]}}}"#);
    let writes = [&write, &overrides, &listed, &local, &resolved("{}")].map(|one| one.config.writes_files());
    assert_eq!(writes, [true, false, true, false, false], "which agents may change files");
}

#[test]
fn read_mode_takes_the_pods_files_but_no_programs_and_hides_this_machines_identities() {
    let plan = files(&resolved(r#"{"feature": {"fs": "read"}}"#), &pod());
    assert_eq!(place(&plan, "/data/x"), Place::RemoteReadLocalWrite);
    assert_eq!(place(&plan, "/home/jane/.kube/config"), Place::Hidden);
    assert_eq!(place(&plan, "/home/jane/shop/app.py"), Place::Local);
    assert_eq!(place(&plan, "/usr/lib/libc.so.6"), Place::Local);
    assert_eq!(place(&plan, "/etc/resolv.conf"), Place::RemoteRead);
    let off = files(&resolved(r#"{"feature": {"fs": false}}"#), &pod());
    assert!(!off.enabled && off.rules.is_empty());
}

#[test]
fn the_environment_is_what_the_spec_declares_unless_the_config_says_more() {
    let names = vec!["GREETING".to_owned()];
    assert_eq!(env(&resolved("{}"), &pod()).unwrap().take, TakeEnv::Names { names });
    assert_eq!(env(&resolved("{}"), &chosen(None)).unwrap().take, TakeEnv::AllButImage);
    let off = env(&resolved(r#"{"feature": {"env": false}}"#), &pod()).unwrap();
    assert_eq!(off.take, TakeEnv::None);
    let text = r#"{"feature": {"env": {"include": "A*;B", "override": {"C": "1"}, "unset": ["D"]}}}"#;
    let plan = env(&resolved(text), &pod()).unwrap();
    assert_eq!(plan.take, TakeEnv::Matching { patterns: vec!["A*".to_owned(), "B".to_owned()] });
    assert_eq!((plan.set["C"].as_str(), plan.unset[0].as_str()), ("1", "D"));
}

#[test]
fn an_env_file_comes_before_mapping_and_override() {
    let folder = std::env::temp_dir().join(format!("mirrord-ide-plan-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("app.env"), "A=file\nDB_HOST=file\nB=file\n").unwrap();
    let text = r#"{"feature": {"env": {
        "env_file": "app.env", "mapping": {"^DB_": "mapped"}, "override": {"B": "override"}
    }}}"#;
    let mut resolved = resolved(text);
    resolved.source.folder = folder.display().to_string();
    let set = env(&resolved, &pod()).unwrap().set;
    assert_eq!((&*set["A"], &*set["DB_HOST"], &*set["B"]), ("file", "mapped", "override"));
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(env(&resolved, &pod()).unwrap_err().kind, ErrorKind::ConfigNotFound);
}

#[test]
fn ports_known_are_those_of_spec_mapping_and_config() {
    let text = r#"{"target": "pod/a", "feature": {"network": {"incoming": {
        "mode": "steal", "port_mapping": [[3000, 7070]], "listen_ports": [[80, 8081]], "ignore_ports": [9000]
    }}}}"#;
    let launch = LaunchPlan { command: vec!["node".into(), "--inspect".into()], ..LaunchPlan::default() };
    let plan = network(&resolved(text), &pod(), &launch).incoming;
    assert_eq!(plan.mode, IncomingMode::Steal);
    assert_eq!(plan.known_ports, [7070, 8080, 9000]);
    assert_eq!((plan.port_mapping[&3000], plan.listen_ports[&80]), (7070, 8081));
    assert_eq!((plan.ignore_ports, plan.debugger_ports), (vec![9000], vec![9229]));
}

#[test]
fn without_a_target_nothing_comes_in_and_the_network_is_still_the_clusters() {
    let plan = network(&resolved(r#"{"target": "targetless"}"#), &chosen(None), &LaunchPlan::default());
    assert_eq!(plan.incoming.mode, IncomingMode::Off);
    assert!(plan.outgoing_tcp && plan.outgoing_udp && plan.dns);
}
