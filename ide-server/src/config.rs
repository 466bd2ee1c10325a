//! From a request's [`ConfigSource`] to a config that holds: finding the file, reading it, and what stands over it.

mod discover;
mod dotenv;
mod overrides;

pub use dotenv::parse as parse_dotenv;

use config_schema::{Format, Inputs, MirrordConfig, Problem, Target};
use protocol::ide::{
    ConfigSource, Diagnostic, ErrorData, ErrorKind, Severity, TextPosition, TextRange, Verified,
};
use std::path::{Path, PathBuf};

/// Build tools and debuggers that are passed through unless `skip_build_tools` is off.
const BUILD_TOOLS: &[&str] = &[
    "as",
    "asm",
    "bazel-real",
    "buildid",
    "cargo",
    "cargo-watch",
    "cc",
    "cc1",
    "cc1plus",
    "cgo",
    "clang",
    "clang++",
    "collect2",
    "compile",
    "debugserver",
    "dlv",
    "g++",
    "gcc",
    "gdb",
    "go",
    "hpack",
    "javac",
    "jspawnhelper",
    "ld",
    "ld.bfd",
    "ld.gold",
    "ld.lld",
    "link",
    "lld",
    "lldb-mi",
    "lldb-server",
    "mold",
    "rustc",
    "tsc",
    "vet",
    "vsdbg",
];

/// A config that can be used.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// What was asked.
    pub source: ConfigSource,
    /// The file that it came from.
    pub file: Option<PathBuf>,
    /// The config, with what stands over it.
    pub config: MirrordConfig,
    /// The target.
    pub target: Option<Target>,
    /// Warnings of the file, for people.
    pub notices: Vec<String>,
}

impl Resolved {
    /// The folder in which the program starts.
    pub fn folder(&self) -> &Path {
        Path::new(&self.source.folder)
    }

    /// Programs that are passed through.
    pub fn skip_processes(&self) -> Vec<String> {
        let mut names: Vec<String> = self.config.skip_processes().map(str::to_owned).collect();
        if self.config.skip_build_tools.unwrap_or(true) {
            names.extend(BUILD_TOOLS.iter().map(|name| (*name).to_owned()));
            let extra = self.config.skip_extra_build_tools.as_deref().unwrap_or_default();
            names.extend(extra.iter().cloned());
        }
        names
    }

    /// A variable of the client's environment.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.source.env.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// The text of a config and where it is from.
struct Text {
    file: Option<PathBuf>,
    content: String,
    format: Format,
}

/// Finds, reads and checks the config, with the overrides over it.
pub fn resolve(source: &ConfigSource) -> Result<Resolved, ErrorData> {
    let mut resolved = Resolved {
        source: source.clone(),
        file: None,
        config: MirrordConfig::default(),
        target: None,
        notices: Vec::new(),
    };
    // Without a file there still are the environment's settings.
    let nothing = || Text { file: None, content: "{}".to_owned(), format: Format::Json };
    {
        let text = load(source)?.unwrap_or_else(nothing);
        let parsed = config_schema::parse_with(&text.content, text.format, &inputs(source)?);
        let name = text.file.as_deref().map_or("the config".into(), Path::to_string_lossy);
        let errors: Vec<&Problem> = parsed
            .problems
            .iter()
            .filter(|problem| problem.severity == config_schema::Severity::Error)
            .collect();
        let Some(config) = parsed.config else { return Err(invalid(&name, text.file.as_deref(), &errors)) };
        resolved.notices = parsed.problems.iter().map(|problem| format!("{name}:{problem}")).collect();
        resolved.config = config;
        resolved.file = text.file;
    }
    overrides::apply(&mut resolved.config, &source.overrides)?;
    resolved.target = match &source.overrides.target {
        Some(text) => Some(Target::parse(text).map_err(|error| {
            ErrorData::new(ErrorKind::ConfigInvalid, format!("--target: {error}"), error.help()).target(text)
        })?),
        None => resolved.config.target().cloned(),
    };
    if resolved.target == Some(Target::Targetless)
        && resolved.config.asked_incoming_mode() == config_schema::IncomingMode::Steal
    {
        return Err(ErrorData::new(
            ErrorKind::ConfigInvalid,
            "without a target there is no traffic to steal",
            "name a target, or leave steal out",
        ));
    }
    Ok(resolved)
}

/// [`resolve`] for a task, which must not wait for a file.
pub async fn resolve_aside(source: &ConfigSource) -> Result<Resolved, ErrorData> {
    let source = source.clone();
    let reading = tokio::task::spawn_blocking(move || resolve(&source));
    reading.await.map_err(|error| {
        ErrorData::new(ErrorKind::Internal, "reading the config broke off", "see daemon.log")
            .caused_by(&error)
    })?
}

fn load(source: &ConfigSource) -> Result<Option<Text>, ErrorData> {
    let named = source.file.as_deref().map(Path::new);
    if let Some(content) = &source.text {
        let name = source.file.as_deref().unwrap_or("");
        let format = Format::of_file_name(name).unwrap_or(Format::Json);
        return Ok(Some(Text {
            file: named.map(|path| absolute(source, path)),
            content: content.clone(),
            format,
        }));
    }
    let variable = source.env.get("MIRRORD_CONFIG_FILE").filter(|path| !path.is_empty());
    let path = match named.or(variable.map(Path::new)) {
        Some(path) => absolute(source, path),
        None => match discover::find(Path::new(&source.folder)) {
            Some(path) => path,
            None => return Ok(None),
        },
    };
    let Some(format) = Format::of_file_name(&path.to_string_lossy()) else {
        return Err(ErrorData::new(
            ErrorKind::ConfigInvalid,
            format!("{} is neither JSON, TOML nor YAML by its name", path.display()),
            "name it .json, .toml, .yaml or .yml",
        ));
    };
    match std::fs::read_to_string(&path) {
        Ok(content) => Ok(Some(Text { file: Some(path), content, format })),
        Err(error) => Err(ErrorData::new(
            ErrorKind::ConfigNotFound,
            format!("the config {} cannot be read", path.display()),
            "check the path given by -f or MIRRORD_CONFIG_FILE",
        )
        .caused_by(&error)),
    }
}

/// What stands around a config.
fn inputs(source: &ConfigSource) -> Result<Inputs, ErrorData> {
    Ok(Inputs {
        env: source.env.clone(),
        key: None,
        made_up_key: crate::state::fresh_name()?,
        git_branch: discover::git_branch(Path::new(&source.folder)),
    })
}

fn absolute(source: &ConfigSource, path: &Path) -> PathBuf {
    Path::new(&source.folder).join(path)
}

fn invalid(name: &str, file: Option<&Path>, errors: &[&Problem]) -> ErrorData {
    let mut told = errors.iter().map(|problem| format!("{name}:{problem}"));
    let first = told.next().unwrap_or_else(|| format!("{name} cannot be used"));
    let help = match errors {
        [only] => only.help.clone().unwrap_or_else(|| "correct it".to_owned()),
        _ => format!("correct all {} errors; `mirrord-ide verify-config` lists them", errors.len()),
    };
    let mut error = ErrorData::new(ErrorKind::ConfigInvalid, first, help);
    error.cause = told.collect();
    error.uri = file.map(uri);
    error.range = errors.first().map(|problem| range(problem));
    error
}

/// The answer of `config/verify`.
pub fn verify(source: &ConfigSource) -> Result<Verified, ErrorData> {
    let Some(text) = load(source)? else {
        return Err(ErrorData::new(
            ErrorKind::ConfigNotFound,
            format!("there is no config in {} or above", source.folder),
            "name a file, or write .mirrord/mirrord.json",
        ));
    };
    let parsed = config_schema::parse_with(&text.content, text.format, &inputs(source)?);
    let diagnostics = parsed.problems.iter().map(|problem| Diagnostic {
        range: range(problem),
        severity: match problem.severity {
            config_schema::Severity::Error => Severity::Error,
            config_schema::Severity::Warning => Severity::Warning,
        },
        code: problem.code.as_str().to_owned(),
        message: match &problem.help {
            Some(help) => format!("{} ({help})", problem.message),
            None => problem.message.clone(),
        },
        path: problem.path.clone(),
    });
    let config = parsed.config.as_ref();
    Ok(Verified {
        ok: config.is_some(),
        uri: text.file.as_deref().map(uri),
        diagnostics: diagnostics.collect(),
        target: config.and_then(|config| config.target()).map(ToString::to_string),
        namespace: config.and_then(|config| config.target_namespace()).map(str::to_owned),
    })
}

fn range(problem: &Problem) -> TextRange {
    let place =
        |place: config_schema::Position| TextPosition { line: place.line, character: place.character };
    TextRange { start: place(problem.range.start), end: place(problem.range.end) }
}

/// A file's URI; what a path may hold and a URI may not is written in hexadecimal.
fn uri(path: &Path) -> String {
    use std::fmt::Write;
    use std::os::unix::ffi::OsStrExt;
    let mut text = "file://".to_owned();
    for byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(byte) {
            text.push(char::from(*byte));
        } else if write!(text, "%{byte:02X}").is_err() {
            unreachable!("writing to a string does not fail");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn text(content: &str) -> ConfigSource {
        ConfigSource {
            folder: "/nowhere".to_owned(),
            text: Some(content.to_owned()),
            file: Some("mirrord.json".to_owned()),
            ..ConfigSource::default()
        }
    }

    #[test]
    fn flags_stand_over_the_file() {
        let mut source =
            text(r#"{"target": "deployment/shop", "feature": {"network": {"incoming": "mirror"}}}"#);
        source.overrides.target = Some("pod/other".to_owned());
        source.overrides.incoming = Some("steal".to_owned());
        source.overrides.no_outgoing = true;
        source.overrides.no_remote_dns = true;
        source.overrides.fs_mode = Some("local".to_owned());
        source.overrides.agent_image = Some("registry/agent:1".to_owned());
        let resolved = resolve(&source).unwrap();
        assert_eq!(resolved.target.unwrap().to_string(), "pod/other");
        let config = resolved.config;
        assert_eq!(config.incoming_mode(), config_schema::IncomingMode::Steal);
        assert!(!config.outgoing_tcp() && !config.outgoing_udp() && !config.remote_dns());
        assert_eq!(config.file_mode(), config_schema::FileMode::Local);
        assert_eq!(config.agent().image_reference().as_deref(), Some("registry/agent:1"));
    }

    #[test]
    fn every_error_of_a_file_is_told_and_the_first_has_its_place() {
        let error = resolve(&text("{\n  \"targett\": \"pod/a\",\n  \"feature\": 7\n}")).unwrap_err();
        assert_eq!(error.kind, ErrorKind::ConfigInvalid);
        assert_eq!(error.range.unwrap().start.line, 1);
        assert_eq!(error.cause.len(), 1, "{error:?}");
        assert_eq!(error.uri.as_deref(), Some("file:///nowhere/mirrord.json"));
    }

    #[test]
    fn a_file_named_by_the_environment_is_used_and_a_missing_one_is_an_error() {
        let env = BTreeMap::from([("MIRRORD_CONFIG_FILE".to_owned(), "nothing.json".to_owned())]);
        let source = ConfigSource { folder: "/nowhere".to_owned(), env, ..ConfigSource::default() };
        let error = resolve(&source).unwrap_err();
        assert_eq!(error.kind, ErrorKind::ConfigNotFound);
        assert!(error.message.contains("/nowhere/nothing.json"), "{error}");
    }

    #[test]
    fn a_target_that_does_not_parse_says_which_word_is_wrong() {
        let mut source = text("{}");
        source.overrides.target = Some("deploymnt/shop".to_owned());
        let error = resolve(&source).unwrap_err();
        assert!(error.help.contains("deployment"), "{error:?}");
    }
}
