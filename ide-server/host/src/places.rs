//! Where a path lives: the session's file plan, compiled.
//!
//! Prefix rules are decided by the `policy` crate, exactly as the layer decides them; regular expressions, which the
//! layer leaves to us, are tried here in the plan's order.

use policy::{PathTable, RuleKind, Verdict};
use protocol::host::{FilePlan, FileRule, PathMapping, PathPattern, Place};
use regex::bytes::{Regex, RegexBuilder};
use std::path::Path;

/// A compiled plan.
#[derive(Debug)]
pub struct Places {
    enabled: bool,
    mapping: Vec<(Regex, Vec<u8>)>,
    rules: Vec<FileRule>,
    expressions: Vec<Option<Regex>>,
    fallback: Place,
    table: PathTable,
}

/// A rule that cannot be compiled. The daemon has checked them all: only another build's ticket can hold one.
#[derive(Debug, thiserror::Error)]
#[error("the file rule {origin} cannot be used: {reason}")]
pub struct BadRule {
    origin: String,
    reason: String,
}

impl Places {
    /// Compiles `plan`, with `mounts` of the pod as further trees when the plan asks for them. `view` is the folder of
    /// this machine in which what is open of the pod's lies: the layer must not take it for local.
    pub fn compile(plan: &FilePlan, mounts: &[String], view: Option<&Path>) -> Result<Self, BadRule> {
        let mut rules = Vec::new();
        rules.extend(view.and_then(Path::to_str).map(|view| FileRule {
            pattern: PathPattern::Tree,
            text: view.to_owned(),
            place: Place::RemoteRead,
            origin: format!("what is open of the target's files lies in {view}"),
        }));
        rules.extend_from_slice(&plan.rules);
        if plan.discovered_mounts {
            rules.extend(mounts.iter().map(|mount| FileRule {
                pattern: PathPattern::Tree,
                text: mount.clone(),
                place: Place::RemoteRead,
                origin: format!("{mount} is a mount of the target"),
            }));
        }
        let mapping = plan
            .mapping
            .iter()
            .map(|PathMapping { pattern, replacement }| {
                let built = RegexBuilder::new(pattern).case_insensitive(true).build();
                let origin = format!("feature.fs.mapping.{pattern}");
                let regex = built.map_err(|error| BadRule { origin, reason: error.to_string() })?;
                Ok((regex, replacement.as_bytes().to_vec()))
            })
            .collect::<Result<Vec<_>, BadRule>>()?;
        let mut table = PathTable::new(verdict(plan.fallback));
        if !mapping.is_empty() {
            // Any path may stand for another: the layer leaves them all to us.
            let pushed = table.push(RuleKind::Undecided, b"/", Verdict::Ask);
            pushed.map_err(|error| BadRule {
                origin: "feature.fs.mapping".into(),
                reason: error.to_string(),
            })?;
        }
        let mut expressions = Vec::with_capacity(rules.len());
        for rule in &rules {
            let bad = |reason: String| BadRule { origin: rule.origin.clone(), reason };
            let (kind, expression) = match rule.pattern {
                PathPattern::Exact => (RuleKind::Exact, None),
                PathPattern::Tree => (RuleKind::Tree, None),
                PathPattern::Regex => {
                    let built = RegexBuilder::new(&rule.text).case_insensitive(true).build();
                    (RuleKind::Undecided, Some(built.map_err(|error| bad(error.to_string()))?))
                }
            };
            let path = if expression.is_some() { "/" } else { rule.text.as_str() };
            table
                .push(kind, path.as_bytes(), verdict(rule.place))
                .map_err(|error| bad(format!("{error:?}")))?;
            expressions.push(expression);
        }
        Ok(Self { enabled: plan.enabled, mapping, rules, expressions, fallback: plan.fallback, table })
    }

    /// Whether any path is looked at.
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// The table for the layer.
    pub fn table(&self) -> &PathTable {
        &self.table
    }

    /// The path that a normalised one stands for, where that is another.
    pub fn mapped(&self, path: &[u8]) -> Option<Vec<u8>> {
        let (regex, replacement) = self.mapping.iter().find(|(regex, _)| regex.is_match(path))?;
        let mapped = regex.replace(path, replacement.as_slice()).into_owned();
        let mut buffer = vec![0; mapped.len() + 1];
        let normal = policy::normalize(&mapped, &mut buffer)?;
        (normal != path).then(|| normal.to_vec())
    }

    /// Where a normalised absolute path lives.
    pub fn of(&self, path: &[u8]) -> Place {
        self.decide(path).0
    }

    /// The same, with the rule that says so.
    pub fn explain(&self, path: &[u8]) -> (Place, String) {
        let mapped = self.mapped(path);
        let (place, rule) = self.decide(mapped.as_deref().unwrap_or(path));
        let reason =
            rule.map_or_else(|| "no rule names it".to_owned(), |index| self.rules[index].origin.clone());
        match mapped {
            Some(mapped) => {
                let mapped = String::from_utf8_lossy(&mapped).into_owned();
                (place, format!("it stands for {mapped} by feature.fs.mapping; {reason}"))
            }
            None => (place, reason),
        }
    }

    fn decide(&self, path: &[u8]) -> (Place, Option<usize>) {
        let (verdict, index) = self.table.decide(path);
        let place = match verdict {
            Verdict::Local => Place::Local,
            Verdict::Remote => Place::Remote,
            Verdict::RemoteRead => Place::RemoteRead,
            Verdict::RemoteReadLocalWrite => Place::RemoteReadLocalWrite,
            Verdict::Hidden => Place::Hidden,
            Verdict::Ask => return self.decide_in_order(path),
        };
        (place, index)
    }

    fn decide_in_order(&self, path: &[u8]) -> (Place, Option<usize>) {
        let fits = |(rule, expression): (&FileRule, &Option<Regex>)| match expression {
            Some(expression) => expression.is_match(path),
            None => {
                let text = rule.text.trim_end_matches('/').as_bytes();
                path == text
                    || rule.pattern == PathPattern::Tree
                        && path.strip_prefix(text).is_some_and(|rest| rest.first() == Some(&b'/'))
            }
        };
        match self.rules.iter().zip(&self.expressions).position(fits) {
            Some(index) => (self.rules[index].place, Some(index)),
            None => (self.fallback, None),
        }
    }
}

fn verdict(place: Place) -> Verdict {
    match place {
        Place::Local => Verdict::Local,
        Place::Remote => Verdict::Remote,
        Place::RemoteRead => Verdict::RemoteRead,
        Place::RemoteReadLocalWrite => Verdict::RemoteReadLocalWrite,
        Place::Hidden => Verdict::Hidden,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(pattern: PathPattern, text: &str, place: Place) -> FileRule {
        FileRule { pattern, text: text.into(), place, origin: format!("rule {text}") }
    }

    #[test]
    fn the_first_rule_that_fits_decides_among_prefixes_and_expressions() {
        let plan = FilePlan {
            enabled: true,
            mapping: vec![],
            rules: vec![
                rule(PathPattern::Tree, "/etc/app", Place::RemoteRead),
                rule(PathPattern::Regex, r"\.PEM$", Place::Hidden),
                rule(PathPattern::Exact, "/srv/key.pem", Place::Remote),
                rule(PathPattern::Exact, "/etc/hosts", Place::RemoteRead),
            ],
            fallback: Place::Local,
            discovered_mounts: true,
        };
        let places = Places::compile(&plan, &["/data".into()], Some(Path::new("/home/me/view"))).unwrap();
        assert_eq!(places.of(b"/etc/app/a.pem"), Place::RemoteRead);
        assert_eq!(places.of(b"/srv/key.pem"), Place::Hidden, "the expression stands first");
        assert_eq!(places.of(b"/etc/hosts"), Place::RemoteRead);
        assert_eq!(places.of(b"/etc/hosts2"), Place::Local);
        assert_eq!(places.of(b"/data/x"), Place::RemoteRead);
        assert_eq!(places.of(b"/home/me/view/0/x"), Place::RemoteRead);
        assert_eq!(places.explain(b"/data").1, "/data is a mount of the target");
        assert_eq!(places.explain(b"/usr/lib").1, "no rule names it");
    }
    #[test]
    fn a_path_stands_for_another_by_the_first_mapping_that_fits() {
        let mapping =
            [("^/var/(log|run)/", "/pod/$1/"), ("^/var/", "/other/"), ("/SAME", "/same"), ("^/bad", "bad")]
                .map(|(pattern, replacement)| PathMapping {
                    pattern: pattern.into(),
                    replacement: replacement.into(),
                });
        let plan = FilePlan {
            enabled: true,
            mapping: mapping.to_vec(),
            rules: vec![rule(PathPattern::Tree, "/pod", Place::Remote)],
            fallback: Place::Local,
            discovered_mounts: false,
        };
        let places = Places::compile(&plan, &[], None).unwrap();
        let mapped = |path: &str| places.mapped(path.as_bytes()).map(|path| String::from_utf8(path).unwrap());
        assert_eq!(mapped("/var/log/a").as_deref(), Some("/pod/log/a"));
        assert_eq!(mapped("/VAR/lib").as_deref(), Some("/other/lib"));
        assert_eq!((mapped("/same"), mapped("/etc"), mapped("/bad/x")), (None, None, None));
        assert_eq!(places.explain(b"/var/log/a").0, Place::Remote);
        assert_eq!(places.table().decide(b"/etc").0, Verdict::Ask, "the layer asks for each");
        assert_eq!(places.of(b"/pod/x"), Place::Remote);
    }
}
