//! The encoded table, and the decision on it.
//!
//! Layout, little endian: `b"mp1"`, fallback verdict (1 byte), number of rules (2), then for each rule its kind (1),
//! verdict (1), length of its path (2) and the path without a trailing slash (the root is the empty path).

/// Where a path lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Verdict {
    /// On this machine.
    Local = 0,
    /// In the pod, for reading and writing.
    Remote = 1,
    /// In the pod for reading; writers get EROFS.
    RemoteRead = 2,
    /// Reading in the pod, writing on this machine.
    RemoteReadLocalWrite = 3,
    /// Nowhere: ENOENT.
    Hidden = 4,
    /// The text alone does not say; only the session host can.
    Ask = 5,
}

impl Verdict {
    const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Local,
            1 => Self::Remote,
            2 => Self::RemoteRead,
            3 => Self::RemoteReadLocalWrite,
            4 => Self::Hidden,
            5 => Self::Ask,
            _ => return None,
        })
    }
}

/// How a rule's path is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RuleKind {
    /// This path alone.
    Exact = 0,
    /// This path and everything below it.
    Tree = 1,
    /// Cannot be decided here (a regular expression): every path that comes this far is [`Verdict::Ask`].
    Undecided = 2,
}

impl RuleKind {
    const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Exact,
            1 => Self::Tree,
            2 => Self::Undecided,
            _ => return None,
        })
    }
}

pub(crate) const MAGIC: &[u8; 3] = b"mp1";
pub(crate) const HEADER: usize = 6;
pub(crate) const RULE_HEADER: usize = 4;

/// A table as it travels: validated once, then decided on without a check that could fail.
#[derive(Clone, Copy, Debug)]
pub struct PathView<'a> {
    fallback: Verdict,
    rules: &'a [u8],
}

impl<'a> PathView<'a> {
    /// Takes encoded bytes; `None` when they are not a whole, well-formed table.
    #[must_use]
    pub fn from_bytes(bytes: &'a [u8]) -> Option<Self> {
        let (header, rules) = bytes.split_at_checked(HEADER)?;
        let &[m0, m1, m2, fallback, low, high] = header else { return None };
        if &[m0, m1, m2] != MAGIC {
            return None;
        }
        let view = Self { fallback: Verdict::from_byte(fallback)?, rules };
        let mut walk = Rules { rest: rules };
        let mut count = 0u16;
        for rule in walk.by_ref() {
            if rule.path.first().is_some_and(|&byte| byte != b'/') || rule.path.last() == Some(&b'/') {
                return None;
            }
            count = count.checked_add(1)?;
        }
        (walk.rest.is_empty() && count == u16::from_le_bytes([low, high])).then_some(view)
    }

    /// Where a normalised absolute path lives, and the index of the rule that said so (`None`: the fallback).
    ///
    /// Paths that are not absolute belong to nobody's table and are local.
    #[must_use]
    pub fn decide(&self, path: &[u8]) -> (Verdict, Option<usize>) {
        // The root is the empty path here, so that "below" always means "followed by a slash".
        let path = match path {
            b"/" => &[][..],
            [b'/', ..] => path,
            _ => return (Verdict::Local, None),
        };
        for (index, rule) in (Rules { rest: self.rules }).enumerate() {
            let fits = match rule.kind {
                RuleKind::Exact => path == rule.path,
                RuleKind::Tree => {
                    path.strip_prefix(rule.path).is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
                }
                RuleKind::Undecided => return (Verdict::Ask, Some(index)),
            };
            if fits {
                return (rule.verdict, Some(index));
            }
        }
        (self.fallback, None)
    }

    /// The verdict of paths that no rule fits.
    #[must_use]
    pub const fn fallback(&self) -> Verdict {
        self.fallback
    }

    /// The rules in their order: kind, verdict, and the path they name (the root is the empty path).
    pub fn rules(&self) -> impl Iterator<Item = (RuleKind, Verdict, &'a [u8])> + use<'a> {
        Rules { rest: self.rules }.map(|rule| (rule.kind, rule.verdict, rule.path))
    }

    /// Whether every path there is gets this verdict, so that the caller need not look at paths at all.
    #[must_use]
    pub fn always(&self) -> Option<Verdict> {
        let mut rules = Rules { rest: self.rules };
        rules
            .all(|rule| rule.kind != RuleKind::Undecided && rule.verdict == self.fallback)
            .then_some(self.fallback)
    }
}

struct Rule<'a> {
    kind: RuleKind,
    verdict: Verdict,
    path: &'a [u8],
}

struct Rules<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Rules<'a> {
    type Item = Rule<'a>;

    /// Stops short of the end at a malformed rule; `from_bytes` refuses such bytes.
    fn next(&mut self) -> Option<Rule<'a>> {
        let (header, rest) = self.rest.split_at_checked(RULE_HEADER)?;
        let &[kind, verdict, low, high] = header else { return None };
        let (path, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes([low, high])))?;
        let rule = Rule { kind: RuleKind::from_byte(kind)?, verdict: Verdict::from_byte(verdict)?, path };
        self.rest = rest;
        Some(rule)
    }
}
