//! Which programs are passed through untouched: what the user named.

use crate::control::Journal;
use crate::traps::process::SkipRule;
use protocol::host::SessionEvent;
use std::path::Path;
use std::sync::Arc;

/// The session's rule.
pub struct Rule {
    named: Vec<String>,
    journal: Arc<Journal>,
}

impl Rule {
    /// `named`: file names, or full paths where they hold a slash.
    pub fn new(named: &[String], journal: Arc<Journal>) -> Self {
        Self { named: named.to_vec(), journal }
    }
}

impl SkipRule for Rule {
    fn skip(&self, executable: &str) -> Option<&'static str> {
        let name = Path::new(executable).file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let plain = without_triple(name);
        let fits = |named: &String| match named.contains('/') {
            true => named == executable,
            false => named == name || Some(named.as_str()) == plain,
        };
        self.named.iter().any(fits).then_some("named in skip_processes")
    }

    fn started(&self, tid: u32, executable: &str, skipped: Option<&'static str>) {
        let coverage = match skipped {
            Some(reason) => format!("skipped: {reason}"),
            None => "covered".to_owned(),
        };
        self.journal.note(SessionEvent::Process { pid: tid as i32, executable: executable.into(), coverage });
    }
}

/// A compiler's name as people know it: `gcc` of `x86_64-linux-gnu-gcc-12`, `ld` of `aarch64-linux-gnu-ld.bfd`. `None`
/// for a name that does not begin with a GNU triple.
fn without_triple(name: &str) -> Option<&str> {
    let (_, tool) = name.split_once("-linux-gnu-").or_else(|| name.split_once("-linux-musl-"))?;
    let tool = tool.strip_suffix(".bfd").or_else(|| tool.strip_suffix(".gold")).unwrap_or(tool);
    let is_version = |text: &str| text.starts_with(|first: char| first.is_ascii_digit());
    Some(tool.rsplit_once('-').filter(|(_, version)| is_version(version)).map_or(tool, |(tool, _)| tool))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_is_known_by_its_name_without_target_and_version() {
        for (name, plain) in [
            ("x86_64-linux-gnu-gcc-12", Some("gcc")),
            ("x86_64-linux-gnu-g++-12", Some("g++")),
            ("aarch64-linux-gnu-ld.bfd", Some("ld")),
            ("x86_64-linux-musl-as", Some("as")),
            ("x86_64-linux-gnu-gcc-ar-12", Some("gcc-ar")),
            ("gcc-12", None),
            ("shop", None),
        ] {
            assert_eq!(without_triple(name), plain, "{name}");
        }
    }
}
