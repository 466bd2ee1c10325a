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
        let fits = |named: &String| if named.contains('/') { named == executable } else { named == name };
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
