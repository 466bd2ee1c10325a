//! What a debuggee is handed: a handful of environment variables, and nothing else.

/// The cookie that lets a local call through the filter in the kernel, as 16 hexadecimal digits.
///
/// It is a fast path, not a secret: whoever sends it only fools their own process.
pub const COOKIE_VAR: &str = "MIRRORD_IDE_COOKIE";
/// The session's name; present in every covered process.
pub const SESSION_VAR: &str = "MIRRORD_IDE_SESSION";
/// The path table of the session in the form of `policy::PathTable::to_text`.
pub const POLICY_VAR: &str = "MIRRORD_IDE_POLICY";
