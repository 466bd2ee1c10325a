//! Templates and environment variables: what comes to a config from around it.

use config_schema::{EnvPlan, FileMode, Format, IncomingMode, Inputs, Parsed, parse, parse_with};

fn inputs(env: &[(&str, &str)]) -> Inputs {
    Inputs {
        env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        made_up_key: "a1b2c".to_owned(),
        git_branch: Some("feat/x".to_owned()),
        ..Inputs::default()
    }
}

fn problems(parsed: &Parsed) -> Vec<String> {
    parsed.problems.iter().map(ToString::to_string).collect()
}

fn target(text: &str, inputs: &Inputs) -> String {
    let parsed = parse_with(text, Format::Json, inputs);
    match parsed.config.as_ref().and_then(|config| config.target()) {
        Some(target) => target.to_string(),
        None => problems(&parsed).join("; "),
    }
}

#[test]
fn a_template_reads_the_users_environment_or_its_default() {
    let text = r#"{ "target": "{{ get_env(name="TARGET", default="pod/fallback") }}" }"#;
    assert_eq!(target(text, &inputs(&[("TARGET", "pod/shop-0")])), "pod/shop-0");
    assert_eq!(target(text, &inputs(&[])), "pod/fallback");
}

#[test]
fn the_environment_of_this_process_is_not_looked_at() {
    let text = r#"{ "target": "pod/{{ get_env(name="PATH") }}" }"#;
    assert_eq!(
        target(text, &inputs(&[])),
        "1:21: error[template]: the template cannot be rendered: the environment variable PATH is not set, and \
         get_env has no default"
    );
}

#[test]
fn a_template_knows_the_key_from_flag_variable_file_or_made_up_in_that_order() {
    let with_key = r#"{ "key": "own", "target": "pod/shop-{{ key }}" }"#;
    let without = r#"{ "target": "pod/shop-{{ key }}" }"#;
    assert_eq!(target(without, &inputs(&[])), "pod/shop-a1b2c");
    assert_eq!(target(with_key, &inputs(&[])), "pod/shop-own");
    assert_eq!(target(with_key, &inputs(&[("MIRRORD_KEY", "env")])), "pod/shop-env");
    let flagged = Inputs { key: Some("flag".to_owned()), ..inputs(&[("MIRRORD_KEY", "env")]) };
    assert_eq!(target(with_key, &flagged), "pod/shop-flag");
}

#[test]
fn the_key_may_be_made_from_the_branch() {
    let text = r#"{ "key": "{{ git_branch | replace(from="/", to="-") }}", "target": "pod/shop-{{ key }}" }"#;
    assert_eq!(target(text, &inputs(&[])), "pod/shop-feat-x");
    assert_eq!(target(text, &inputs(&[("MIRRORD_BRANCH_NAME", "main")])), "pod/shop-main");
}

#[test]
fn a_branch_outside_a_repository_needs_a_default() {
    let outside = Inputs { git_branch: None, ..inputs(&[]) };
    let bare = r#"{ "target": "pod/{{ git_branch }}" }"#;
    assert!(target(bare, &outside).contains("error[template]"), "{}", target(bare, &outside));
    assert_eq!(target(r#"{ "target": "pod/{{ git_branch | default(value="x") }}" }"#, &outside), "pod/x");
}

#[test]
fn a_broken_template_is_reported_at_its_place() {
    let parsed = parse("{\n  \"target\": \"{{ key \"\n}\n", Format::Json);
    let problem = &parsed.problems[0];
    assert_eq!((parsed.problems.len(), problem.code.as_str()), (1, "template"));
    assert_eq!(problem.range.start.human().0, 2, "{problem}");
}

#[test]
fn problems_of_a_rendered_config_stand_at_the_lines_of_the_original() {
    let text =
        "{\n  \"target\": \"{{ get_env(name=\"T\", default=\"shop\") }}\",\n  \"kubeContext\": \"x\"\n}\n";
    let parsed = parse(text, Format::Json);
    let places: Vec<_> =
        parsed.problems.iter().map(|problem| (problem.code.as_str(), problem.range.start.human())).collect();
    assert_eq!(places, [("invalid-target", (2, 3)), ("unknown-key", (3, 3))]);
    // A block that vanishes moves the lines below it.
    let yaml = "{% if false %}\na: 1\n{% endif %}\nkubeContext: x\n";
    let parsed = parse(yaml, Format::Yaml);
    assert_eq!(parsed.problems[0].range.start.human(), (4, 1));
}

#[test]
fn variables_stand_over_the_file_in_long_and_short_forms() {
    let file = r#"{
        "target": "pod/shop-0",
        "agent": { "image": "registry:5000/agent:1" },
        "feature": { "fs": "read", "network": { "incoming": "steal", "outgoing": false }, "env": true }
    }"#;
    let parsed = parse_with(
        file,
        Format::Json,
        &inputs(&[
            ("MIRRORD_TARGET_NAMESPACE", "prod"),
            ("MIRRORD_AGENT_IMAGE_TAG", "2"),
            ("MIRRORD_FILE_MODE", "local"),
            ("MIRRORD_AGENT_TCP_STEAL_TRAFFIC", "false"),
            ("MIRRORD_TCP_OUTGOING", "true"),
            ("MIRRORD_OVERRIDE_ENV_VARS_INCLUDE", "A;B_*"),
            ("MIRRORD_AGENT_STARTUP_TIMEOUT", "5"),
            ("MIRRORD_SOMETHING_ELSE", "x"),
        ]),
    );
    assert_eq!(problems(&parsed), Vec::<String>::new());
    let Some(config) = parsed.config else { panic!("no config") };
    assert_eq!(config.target().map(ToString::to_string).as_deref(), Some("pod/shop-0"));
    assert_eq!(config.target_namespace(), Some("prod"));
    assert_eq!(config.agent().image_reference().as_deref(), Some("registry:5000/agent:2"));
    assert_eq!(config.agent().startup_timeout().as_secs(), 5);
    assert_eq!(config.file_mode(), FileMode::Local);
    assert_eq!(config.incoming_mode(), IncomingMode::Mirror);
    assert!(config.outgoing_tcp() && !config.outgoing_udp());
    let EnvPlan::With(env) = config.env() else { panic!("the variable is there") };
    assert_eq!(env.include().collect::<Vec<_>>(), ["A", "B_*"]);
}

#[test]
fn a_target_from_a_variable_replaces_the_files_whole_target() {
    let file = r#"{ "target": { "deployment": "shop", "container": "web", "namespace": "prod" } }"#;
    let parsed = parse_with(file, Format::Json, &inputs(&[("MIRRORD_IMPERSONATED_TARGET", "pod/other")]));
    let Some(config) = parsed.config else { panic!("{:?}", parsed.problems) };
    assert_eq!(config.target().map(ToString::to_string).as_deref(), Some("pod/other"));
    assert_eq!(config.target_namespace(), Some("prod"));
}

#[test]
fn a_wrong_variable_is_named_in_its_problem() {
    let parsed = parse_with(
        "{}",
        Format::Json,
        &inputs(&[
            ("MIRRORD_TCP_OUTGOING", "maybe"),
            ("MIRRORD_IMPERSONATED_TARGET", "shop"),
            ("MIRRORD_HTTP_FILTER_PORTS", "80;x"),
        ]),
    );
    assert_eq!(
        problems(&parsed),
        [
            "1:1: error[wrong-type] feature.network.incoming.http_filter.ports: MIRRORD_HTTP_FILTER_PORTS: expected ports \
             with `;` between, found \"80;x\"",
            "1:1: error[wrong-type] feature.network.outgoing.tcp: MIRRORD_TCP_OUTGOING: expected true or false, found \
             \"maybe\"",
            "1:1: error[invalid-target] target.path: MIRRORD_IMPERSONATED_TARGET: \"shop\" does not say what kind of \
             target it is (write pod/shop or deployment/shop)",
        ]
    );
}
