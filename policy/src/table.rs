//! Building a table: the session host's side.

use crate::view::{HEADER, MAGIC, PathView, RuleKind, Verdict};

/// Why a rule cannot be in a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableError {
    /// A path that does not begin with a slash.
    NotAbsolute(Vec<u8>),
    /// A path longer than 65,535 bytes.
    TooLong,
    /// More than 65,535 rules.
    TooMany,
}

impl std::fmt::Display for TableError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotAbsolute(path) => {
                write!(f, "the path {:?} is not absolute", String::from_utf8_lossy(path))
            }
            Self::TooLong => f.write_str("a path is longer than 65535 bytes"),
            Self::TooMany => f.write_str("there are more than 65535 rules"),
        }
    }
}

impl std::error::Error for TableError {}

/// Rules on paths, the first that fits decides; held in the form that travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathTable {
    bytes: Vec<u8>,
    count: u16,
}

impl PathTable {
    /// A table without rules.
    #[must_use]
    pub fn new(fallback: Verdict) -> Self {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([fallback as u8, 0, 0]);
        debug_assert_eq!(bytes.len(), HEADER);
        Self { bytes, count: 0 }
    }

    /// Adds a rule behind the others; its index is the number of rules before it.
    ///
    /// The path of an `Undecided` rule is not looked at.
    ///
    /// # Errors
    /// When the path is not absolute, or a limit of the encoding is passed.
    pub fn push(&mut self, kind: RuleKind, path: &[u8], verdict: Verdict) -> Result<(), TableError> {
        let mut buffer = vec![0; path.len() + 1];
        let path = match kind {
            RuleKind::Undecided => &[][..],
            _ => match crate::normalize(path, &mut buffer) {
                None => return Err(TableError::NotAbsolute(path.to_vec())),
                Some(b"/") => &[],
                Some(path) => path,
            },
        };
        let length = u16::try_from(path.len()).map_err(|_| TableError::TooLong)?;
        self.count = self.count.checked_add(1).ok_or(TableError::TooMany)?;
        self.bytes.extend([kind as u8, verdict as u8]);
        self.bytes.extend(length.to_le_bytes());
        self.bytes.extend(path);
        self.bytes[HEADER - 2..HEADER].copy_from_slice(&self.count.to_le_bytes());
        Ok(())
    }

    /// What travels to the layer (as text: [`crate::to_text`]).
    #[must_use]
    pub fn to_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where a normalised absolute path lives, and the index of the rule that said so (`None`: the fallback).
    #[must_use]
    pub fn decide(&self, path: &[u8]) -> (Verdict, Option<usize>) {
        // `push` writes nothing that `from_bytes` refuses; a test holds that.
        PathView::from_bytes(&self.bytes).map_or((Verdict::Ask, None), |view| view.decide(path))
    }
}
