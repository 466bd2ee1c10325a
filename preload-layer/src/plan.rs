//! Which paths are surely this machine's.
//!
//! The question asked of a path is the session host's own: join it to its folder, make it normal, decide on the table.
//! Here the answer must be had without knowing the folder, as often as can be, because asking the kernel for a
//! folder's path costs several times what the call itself does.
//!
//! # When a relative path is local whatever the table says of its own text
//! Let the table be *simple*: its fallback is local, it has no undecided rule, and no rule that is not local names the
//! root. Let N be all names that occur in the paths of the rules that are not local. Take
//! - a folder F (normal, absolute) that is *outside*: not the root of a tree rule that is not local, nor below one;
//! - a relative path x = x1/x2/…/xn, n ≥ 1, without `..` (`.` and empty names left out), with x1 not in N.
//!
//! Then q = F/x is local. Suppose a rule that is not local, of path p, fits q.
//! - An exact rule: p = q, so x1 is a name of p. But then x1 is in N.
//! - A tree rule: p is q or an ancestor of q. If p is no longer than F, then p is F or an ancestor of F, and F is not
//!   outside. If it is longer, then p = F/x1/…/xk with k ≥ 1, and x1 is in N.
//!
//! So only local rules fit q, or none and the fallback is local. n ≥ 1 is needed: `.` is F itself, and an exact rule
//! may name F. The same argument with F = `/` says that an absolute path is local if its first name begins no rule.
//!
//! That a folder is outside is remembered by [`crate::folders`]. N is kept as a set of hashes: a name that is taken for
//! one of N only costs the longer way. The session host serves [`MADE`] whatever the table says, so it counts as an
//! exact rule.

#![forbid(unsafe_code)]

use crate::path::Path;
use policy::{PathView, RuleKind, Verdict};

/// Stands for a file that the session host may have made for the session.
pub(crate) const MADE: &[u8] = b"/etc/nsswitch.conf";

/// A set of names that may answer yes for a name that is not in it, never no for one that is.
#[derive(Clone, Copy, Debug)]
struct Names([u64; 16]);

impl Names {
    const fn none() -> Self {
        Self([0; 16])
    }

    /// Which word, which bit in it.
    fn place(name: &[u8]) -> (usize, u64) {
        let hash = name
            .iter()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
        let hash = hash ^ hash >> 15;
        ((hash >> 6) as usize % 16, 1 << (hash % 64))
    }

    fn add(&mut self, name: &[u8]) {
        let (word, bit) = Self::place(name);
        if let Some(word) = self.0.get_mut(word) {
            *word |= bit;
        }
    }

    fn may_hold(&self, name: &[u8]) -> bool {
        let (word, bit) = Self::place(name);
        self.0.get(word).is_none_or(|word| word & bit != 0)
    }
}

/// The session's table, prepared for quick answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places<'a> {
    view: PathView<'a>,
    simple: bool,
    /// First names of what is not local.
    firsts: Names,
    /// All names of what is not local: N.
    names: Names,
}

impl<'a> Places<'a> {
    pub(crate) fn new(view: PathView<'a>) -> Self {
        let mut places = Self {
            view,
            simple: view.fallback() == Verdict::Local,
            firsts: Names::none(),
            names: Names::none(),
        };
        places.add(MADE);
        for (kind, verdict, path) in view.rules() {
            if kind == RuleKind::Undecided || verdict != Verdict::Local && path.is_empty() {
                places.simple = false;
            } else if verdict != Verdict::Local {
                places.add(path);
            }
        }
        places
    }

    fn add(&mut self, path: &[u8]) {
        for (index, name) in path.split(|byte| *byte == b'/').skip(1).enumerate() {
            if index == 0 {
                self.firsts.add(name);
            }
            self.names.add(name);
        }
    }

    /// Whether an absolute path is surely local. `room` is for its normal form.
    pub(crate) fn is_local(&self, path: &Path<'_>, room: &mut [u8]) -> bool {
        // `/pod/../etc/hostname`: only the session host finds out whether the kernel can walk it.
        if path.climbs || !path.is_absolute() {
            return false;
        }
        if self.simple && !path.first.is_empty() && !self.firsts.may_hold(path.first) {
            return true;
        }
        if path.normal {
            return self.decides_local(path.text);
        }
        policy::normalize(path.text, room).is_some_and(|path| self.decides_local(path))
    }

    fn decides_local(&self, path: &[u8]) -> bool {
        path != MADE && self.view.decide(path).0 == Verdict::Local
    }

    /// Whether a relative path is local in every folder that is outside.
    pub(crate) fn is_local_outside(&self, path: &Path<'_>) -> bool {
        self.simple && !path.climbs && !path.first.is_empty() && !self.names.may_hold(path.first)
    }

    /// Whether a folder, by its normal absolute path, is outside of what is not local.
    pub(crate) fn is_outside(&self, folder: &[u8]) -> bool {
        let below =
            |tree: &[u8]| folder.strip_prefix(tree).is_some_and(|rest| matches!(rest, [] | [b'/', ..]));
        folder.first() == Some(&b'/')
            && self.simple
            && !self.view.rules().any(|(kind, verdict, path)| {
                kind == RuleKind::Tree && verdict != Verdict::Local && below(path)
            })
    }

    /// Whether a relative path is surely local in the folder whose path is in the first `length` bytes of `room`.
    pub(crate) fn is_local_below(&self, path: &Path<'_>, room: &mut [u8], length: usize) -> bool {
        if path.climbs || path.is_absolute() || room.first() != Some(&b'/') {
            return false;
        }
        let mut end = if length == 1 { 0 } else { length };
        for name in path.text.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")) {
            let Some(space) = room.get_mut(end..end + 1 + name.len()) else { return false };
            let Some((slash, rest)) = space.split_first_mut() else { return false };
            *slash = b'/';
            rest.copy_from_slice(name);
            end += 1 + name.len();
        }
        if end == 0 {
            return self.decides_local(b"/");
        }
        room.get(..end).is_some_and(|joined| self.decides_local(joined))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::PathTable;

    /// A small generator, so that a failure can be run again by its seed.
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) % limit
        }

        fn path(&mut self, names: &[&str], most: u64) -> String {
            let length = self.below(most + 1);
            (0..length).map(|_| format!("/{}", names[self.below(names.len() as u64) as usize])).collect()
        }
    }

    /// The session host's decision: join, make normal, look up.
    fn naive(table: &PathTable, folder: &str, path: &str) -> bool {
        let joined = if path.starts_with('/') { path.to_owned() } else { format!("{folder}/{path}") };
        let mut buffer = vec![0; joined.len() + 1];
        let normal = policy::normalize(joined.as_bytes(), &mut buffer).unwrap();
        normal != MADE && table.decide(normal).0 == Verdict::Local
    }

    fn random_table(random: &mut Random) -> PathTable {
        const VERDICTS: [Verdict; 6] = [
            Verdict::Local,
            Verdict::Local,
            Verdict::RemoteRead,
            Verdict::Remote,
            Verdict::Hidden,
            Verdict::RemoteReadLocalWrite,
        ];
        let verdict = |random: &mut Random| VERDICTS[random.below(6) as usize];
        let mut table = PathTable::new(if random.below(4) == 0 { verdict(random) } else { Verdict::Local });
        for _ in 0..random.below(5) {
            let kinds = if random.below(8) == 0 { 4 } else { 3 };
            let kind = [RuleKind::Exact, RuleKind::Tree, RuleKind::Tree, RuleKind::Undecided]
                [random.below(kinds) as usize];
            let path = format!("/{}", random.path(&["a", "b", "c", "etc"], 3));
            let verdict = verdict(random);
            table.push(kind, path.as_bytes(), verdict).unwrap();
        }
        table
    }

    #[test]
    fn what_is_passed_is_what_the_session_host_calls_local() {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let (mut passed, mut without_folder, mut kept) = (0, 0, 0);
        for round in 0..200_000 {
            let table = random_table(&mut random);
            let places = Places::new(PathView::from_bytes(table.to_bytes()).unwrap());
            let mut folder = random.path(&["a", "b", "c", "d", "etc"], 3);
            if folder.is_empty() {
                folder.push('/');
            }
            let names = ["a", "b", "c", "d", "x", "y", ".", "", "..", "nsswitch.conf", "etc"];
            let mut text = random.path(&names, 4);
            let absolute = random.below(3) == 0;
            if !absolute {
                text = text.trim_start_matches('/').to_owned();
            }
            if text.is_empty() || absolute != text.starts_with('/') {
                continue;
            }
            let path = Path::new(text.as_bytes());
            let mut room = [0; 256];
            let local = naive(&table, &folder, &text);
            let told = format!("round {round}: {text:?} in {folder:?} of {table:?}");
            let surely = if absolute {
                places.is_local(&path, &mut room)
            } else {
                room[..folder.len()].copy_from_slice(folder.as_bytes());
                let joined = places.is_local_below(&path, &mut room, folder.len());
                if places.is_outside(folder.as_bytes()) && places.is_local_outside(&path) {
                    assert!(joined, "{told}");
                    without_folder += 1;
                }
                joined
            };
            // Sound always, and complete but for `..`.
            assert!(!surely || local, "{told}");
            assert!(surely || !local || path.climbs, "{told}");
            passed += usize::from(surely);
            kept += usize::from(!surely);
        }
        assert!(
            passed > 10_000 && kept > 10_000 && without_folder > 5_000,
            "{passed} {kept} {without_folder}"
        );
    }

    #[test]
    fn names_that_begin_no_rule_need_no_folder() {
        let mut table = PathTable::new(Verdict::Local);
        table.push(RuleKind::Tree, b"/srv/app/config", Verdict::RemoteRead).unwrap();
        let places = Places::new(PathView::from_bytes(table.to_bytes()).unwrap());
        let alone = |text: &str| places.is_local_outside(&Path::new(text.as_bytes()));
        assert!(alone("usr/config"));
        assert!(!alone("config/usr"));
        assert!(!alone("app"));
        assert!(!alone("."), "an exact rule may name the folder");
        assert!(!alone("usr/../app"));
        assert!(places.is_outside(b"/srv/app"));
        assert!(!places.is_outside(b"/srv/app/config"));
        assert!(!places.is_outside(b"/srv/app/config/deep"));
        assert!(places.is_outside(b"/srv/app/config2"));
        assert!(!places.is_outside(b"(unreachable)/srv"));
    }

    #[test]
    fn a_path_longer_than_the_room_is_not_decided() {
        let table = PathTable::new(Verdict::Local);
        let places = Places::new(PathView::from_bytes(table.to_bytes()).unwrap());
        let long = "etc/".repeat(80);
        let mut room = [0; 64];
        room[..2].copy_from_slice(b"/a");
        assert!(!places.is_local_below(&Path::new(long.as_bytes()), &mut room, 2));
        assert!(!places.is_local(&Path::new(format!("//{long}").as_bytes()), &mut room));
        assert!(places.is_local(&Path::new(format!("/{long}").as_bytes()), &mut room));
    }
}
