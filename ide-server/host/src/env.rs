//! The debuggee's environment: what the user started it with, and the pod's variables over it.

use bytes::Bytes;
use protocol::host::{EnvPlan, TakeEnv};
use regex::Regex;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// An environment, by name.
pub type Environment = BTreeMap<OsString, OsString>;

/// What an image sets for itself and would break or mislead the same program on another machine.
const OF_THE_IMAGE: &[&str] = &[
    "PATH",
    "HOME",
    "PWD",
    "OLDPWD",
    "SHLVL",
    "SHELL",
    "USER",
    "LOGNAME",
    "TERM",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "TMPDIR",
    "_",
    "GPG_KEY",
    "BUNDLER_*",
    "BUNDLE_*",
    "CATALINA_*",
    "CLASSPATH",
    "DOTNET_*",
    "ASPNET_VERSION",
    "GEM_HOME",
    "GEM_PATH",
    "GOPATH",
    "GOROOT",
    "GOTOOLCHAIN",
    "GOLANG_VERSION",
    "GOMODCACHE",
    "HOMEPATH",
    "JAVA_EXE",
    "JAVA_HOME",
    "JAVA_VERSION",
    "JAVA_TOOL_OPTIONS",
    "_JAVA_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "NODE_PATH",
    "NODE_VERSION",
    "NODE_OPTIONS",
    "YARN_VERSION",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHON_VERSION",
    "PYTHON_SHA256",
    "PYTHON_PIP_VERSION",
    "PYTHON_SETUPTOOLS_VERSION",
    "PYTHON_GET_PIP_*",
    "VIRTUAL_ENV",
    "RUBYLIB",
    "RUBYOPT",
    "RUBY_VERSION",
    "RUSTUP_HOME",
    "CARGO_HOME",
    "RUST_VERSION",
];

/// Never taken, whatever the plan says: they change how programs are loaded on this machine, or are ours.
const NEVER: &[&str] = &["LD_*", "MIRRORD_IDE_*", "GCONV_PATH", "LOCPATH", "NLSPATH"];

/// Variables by which a debugger gets into the program, each with what its options hold then.
const DEBUGGERS: &[(&str, &[&str])] = &[
    ("NODE_OPTIONS", &["--require", "--import", "--inspect"]),
    ("JAVA_TOOL_OPTIONS", &["jdwp", "-javaagent"]),
    ("JDK_JAVA_OPTIONS", &["jdwp", "-javaagent"]),
];

/// A pattern of `feature.env.mapping` that is no regular expression; the daemon refuses such configs.
#[derive(Debug, thiserror::Error)]
#[error("feature.env.mapping has a pattern that is no regular expression: {0}")]
pub struct BadMapping(#[from] regex::Error);

/// Makes the environment out of the user's `own` and the `pod`'s (each `NAME=value`).
///
/// # Errors
/// A mapping that does not compile.
pub fn build(own: Environment, pod: &[Bytes], plan: &EnvPlan) -> Result<Environment, BadMapping> {
    let mapping = plan
        .mapping
        .iter()
        .map(|(pattern, value)| Ok((Regex::new(pattern)?, value)))
        .collect::<Result<Vec<_>, regex::Error>>()?;
    let mut env = own;
    for variable in pod {
        let Some(at) = variable.iter().position(|byte| *byte == b'=') else { continue };
        let name = OsString::from_vec(variable[..at].to_vec());
        let text = name.to_string_lossy();
        if !is_taken(&text, plan) {
            continue;
        }
        let mapped = mapping.iter().find(|(pattern, _)| pattern.is_match(&text));
        let value = match mapped {
            Some((_, value)) => OsString::from(value.as_str()),
            None => OsString::from_vec(variable[at + 1..].to_vec()),
        };
        match env.get_mut(&name).filter(|own| is_debuggers(&text, own)) {
            // The runtimes let the later of two options decide, so the pod's still stand over the user's.
            Some(own) => {
                own.push(" ");
                own.push(value);
            }
            None => {
                env.insert(name, value);
            }
        }
    }
    for (name, value) in &plan.set {
        env.insert(name.into(), value.into());
    }
    env.retain(|name, _| {
        !plan.unset.iter().any(|unset| name.as_bytes().eq_ignore_ascii_case(unset.as_bytes()))
    });
    Ok(env)
}

/// Whether a debugger needs this value to stay.
fn is_debuggers(name: &str, value: &OsString) -> bool {
    let value = value.to_string_lossy();
    DEBUGGERS.iter().any(|(known, parts)| *known == name && parts.iter().any(|part| value.contains(part)))
}

fn is_taken(name: &str, plan: &EnvPlan) -> bool {
    let any = |patterns: &[&str]| patterns.iter().any(|pattern| fits(pattern, name));
    if any(NEVER) || plan.exclude.iter().any(|pattern| fits(pattern, name)) {
        return false;
    }
    match &plan.take {
        TakeEnv::None => false,
        TakeEnv::Names { names } => names.iter().any(|taken| taken == name),
        TakeEnv::Matching { patterns } => patterns.iter().any(|pattern| fits(pattern, name)),
        TakeEnv::AllButImage => !any(OF_THE_IMAGE),
    }
}

/// Whether `name` fits a pattern with `*` (any run) and `?` (any one character).
fn fits(pattern: &str, name: &str) -> bool {
    fn rest(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((b'*', more)), _) => (0..=name.len()).any(|skipped| rest(more, &name[skipped..])),
            (Some((b'?', more)), Some((_, left))) => rest(more, left),
            (Some((wanted, more)), Some((found, left))) => wanted == found && rest(more, left),
            _ => false,
        }
    }
    rest(pattern.as_bytes(), name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Vec<Bytes> {
        [
            "DB_URL=postgres://db?a=b",
            "PATH=/pod/bin",
            "LD_PRELOAD=/x.so",
            "HOSTNAME=web-1",
            "LC_ALL=C",
            "EMPTY=",
        ]
        .map(|text| Bytes::from_static(text.as_bytes()))
        .to_vec()
    }

    fn names(plan: &EnvPlan) -> String {
        let own = Environment::from([("PATH".into(), "/usr/bin".into()), ("KEEP".into(), "1".into())]);
        let env = build(own, &pod(), plan).unwrap();
        let shown = |(name, value): (&OsString, &OsString)| {
            format!("{}={}", name.to_string_lossy(), value.to_string_lossy())
        };
        env.iter().map(shown).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn by_default_the_pods_variables_are_taken_but_not_its_images_nor_its_loader() {
        assert_eq!(
            names(&EnvPlan::default()),
            "DB_URL=postgres://db?a=b EMPTY= HOSTNAME=web-1 KEEP=1 PATH=/usr/bin"
        );
    }

    #[test]
    fn a_variable_that_is_named_is_taken_even_from_the_image() {
        let take = TakeEnv::Names { names: vec!["PATH".into()] };
        assert_eq!(names(&EnvPlan { take, ..EnvPlan::default() }), "KEEP=1 PATH=/pod/bin");
    }

    #[test]
    fn a_debuggers_options_stay_before_the_pods() {
        let pod = [Bytes::from_static(b"NODE_OPTIONS=--max-old-space-size=64")];
        let plan =
            EnvPlan { take: TakeEnv::Names { names: vec!["NODE_OPTIONS".into()] }, ..EnvPlan::default() };
        let with = |own: &str| {
            let env = build(Environment::from([("NODE_OPTIONS".into(), own.into())]), &pod, &plan).unwrap();
            env[&OsString::from("NODE_OPTIONS")].to_string_lossy().into_owned()
        };
        assert_eq!(
            with("--require /js-debug/bootloader.js"),
            "--require /js-debug/bootloader.js --max-old-space-size=64"
        );
        assert_eq!(with("--max-old-space-size=4096"), "--max-old-space-size=64");
    }

    #[test]
    fn patterns_exclusion_mapping_override_and_unset_apply_in_this_order() {
        let plan = EnvPlan {
            take: TakeEnv::Matching { patterns: vec!["*".into()] },
            exclude: vec!["LC_?LL".into()],
            mapping: vec![("^DB_".into(), "mapped".into())],
            set: BTreeMap::from([("EMPTY".into(), "set".into())]),
            unset: vec!["path".into()],
        };
        assert_eq!(names(&plan), "DB_URL=mapped EMPTY=set HOSTNAME=web-1 KEEP=1");
        let nothing = EnvPlan { take: TakeEnv::None, ..EnvPlan::default() };
        assert_eq!(names(&nothing), "KEEP=1 PATH=/usr/bin");
    }
}
