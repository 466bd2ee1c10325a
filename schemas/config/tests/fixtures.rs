//! Every config under `schemas/fixtures/config` with the problems that it must have, no more and no fewer, in
//! `NAME.expected`. `UPDATE_GENERATED=1` writes these files; read the diff before committing it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use config_schema::{Format, Severity, parse};

fn folder() -> PathBuf {
    Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("../fixtures/config")
}

fn configs() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension != "expected"))
        .collect();
    found.sort();
    found
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

fn report(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let parsed = parse(&text, Format::of_file_name(&name(path)).unwrap());
    let mut report = String::new();
    for problem in &parsed.problems {
        let (start, end) = (problem.range.start.human(), problem.range.end.human());
        writeln!(report, "{problem}\n    to {}:{}", end.0, end.1).unwrap();
        assert!(start <= end, "{problem}");
    }
    let errors = parsed.problems.iter().any(|problem| problem.severity == Severity::Error);
    assert_eq!(parsed.config.is_none(), errors, "a config is given exactly if there is no error");
    report
}

#[test]
fn every_fixture_has_exactly_its_problems() {
    let mut wrong = Vec::new();
    let configs = configs();
    assert!(configs.len() >= 40, "the fixtures are not there");
    for path in configs {
        let expected = folder().join(format!("{}.expected", name(&path)));
        let now = report(&path);
        if std::env::var_os("UPDATE_GENERATED").is_some() {
            std::fs::write(&expected, &now).unwrap();
        }
        let committed = std::fs::read_to_string(&expected).unwrap_or_else(|_| "no .expected file".to_owned());
        if committed != now {
            wrong.push(format!("{}\n--- expected\n{committed}--- found\n{now}", name(&path)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_three_formats_are_judged_alike() {
    let mut compared = 0;
    for json in
        configs().iter().filter(|path| name(path).starts_with("same-") && name(path).ends_with(".json"))
    {
        let words = |path: &Path| -> Vec<String> {
            let text = std::fs::read_to_string(path).unwrap();
            let parsed = parse(&text, Format::of_file_name(&name(path)).unwrap());
            let mut words: Vec<String> = parsed
                .problems
                .iter()
                .map(|problem| format!("{} {} {}", problem.code.as_str(), problem.path, problem.message))
                .collect();
            words.sort();
            words
        };
        let expected = words(json);
        assert!(!expected.is_empty(), "{}", name(json));
        for extension in ["toml", "yaml"] {
            assert_eq!(words(&json.with_extension(extension)), expected, "{} as {extension}", name(json));
        }
        compared += 1;
    }
    assert!(compared > 0);
}
