//! How a program is covered, in words; and what is not as usual about it.

use crate::files::{Backend, FileServer};
use crate::sys::Errno;

/// The mode as `status` and `exec` show it. `no_copies` is why descriptors cannot be copied from the program.
pub(super) fn words(engine: &str, files: &FileServer, no_copies: Option<Errno>) -> String {
    let sockets = if no_copies.is_some() { ", sockets made for the program" } else { "" };
    format!("{engine}, files by {}{sockets}", files.backend())
}

/// What this machine or container does not allow, and what is done instead; `None` where all is allowed.
pub(super) fn less(files: &FileServer, no_copies: Option<Errno>) -> Option<String> {
    let mut parts = Vec::new();
    if files.backend() == Backend::Memfd {
        parts.push("no FUSE can be mounted here, so files of the pod are copied into memory".to_owned());
    }
    if !files.why_not().is_empty() {
        tracing::info!(why = files.why_not(), "a better way to serve files is not to be had");
    }
    if let Some(errno) = no_copies {
        let why = std::io::Error::from_raw_os_error(errno);
        tracing::info!(%why, "descriptors cannot be copied from the program (pidfd_getfd)");
        parts.push("pidfd_getfd is refused here, so the program's sockets are made for it".to_owned());
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}
