//! The table against an implementation that is plainly right, on thousands of made-up rules and paths.

use policy::{PathTable, PathView, RuleKind, TableError, Verdict, from_text, normalize, to_text};

/// xorshift: the same paths in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    fn path(&mut self) -> Vec<u8> {
        const NAMES: [&str; 10] = ["etc", "config", "configs", "..", ".", "", "a", "..data", "usr", "\u{e9}"];
        let mut path = String::new();
        for _ in 0..self.below(6) {
            path.push('/');
            path.push_str(NAMES[self.below(NAMES.len())]);
        }
        if path.is_empty() || self.below(8) == 0 {
            path.push('/');
        }
        path.into_bytes()
    }

    fn verdict(&mut self) -> Verdict {
        [Verdict::Local, Verdict::Remote, Verdict::RemoteRead, Verdict::RemoteReadLocalWrite, Verdict::Hidden]
            [self.below(5)]
    }
}

fn names(path: &[u8]) -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = Vec::new();
    for name in path.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop()),
            name => names.push(name.to_vec()),
        }
    }
    names
}

type NaiveRule = (RuleKind, Vec<Vec<u8>>, Verdict);

fn naive(rules: &[NaiveRule], fallback: Verdict, path: &[u8]) -> (Verdict, Option<usize>) {
    let path = names(path);
    for (index, (kind, rule, verdict)) in rules.iter().enumerate() {
        match kind {
            RuleKind::Exact if *rule == path => return (*verdict, Some(index)),
            RuleKind::Tree if path.len() >= rule.len() && path[..rule.len()] == rule[..] => {
                return (*verdict, Some(index));
            }
            RuleKind::Undecided => return (Verdict::Ask, Some(index)),
            _ => {}
        }
    }
    (fallback, None)
}

#[test]
fn ten_thousand_paths_are_decided_as_by_the_naive_implementation() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut verdicts_seen = std::collections::HashSet::new();
    for _ in 0..500 {
        let fallback = dice.verdict();
        let mut table = PathTable::new(fallback);
        let mut rules = Vec::new();
        for _ in 0..dice.below(8) {
            let kind = [RuleKind::Exact, RuleKind::Tree, RuleKind::Exact, RuleKind::Undecided][dice.below(4)];
            let (path, verdict) = (dice.path(), dice.verdict());
            table.push(kind, &path, verdict).unwrap();
            rules.push((kind, names(&path), verdict));
        }
        let text = to_text(table.to_bytes());
        let mut buffer = [0; 1024];
        let bytes = from_text(text.as_bytes(), &mut buffer).unwrap();
        assert_eq!(bytes, table.to_bytes());
        let view = PathView::from_bytes(bytes).unwrap();
        for _ in 0..20 {
            let path = dice.path();
            let mut buffer = [0; 256];
            let normal = normalize(&path, &mut buffer).unwrap();
            let expected = naive(&rules, fallback, &path);
            assert_eq!(view.decide(normal), expected, "{rules:?} {:?}", String::from_utf8_lossy(&path));
            assert_eq!(table.decide(normal), expected);
            if let Some(verdict) = view.always() {
                assert_eq!(verdict, expected.0);
            }
            verdicts_seen.insert(expected.0);
        }
    }
    assert_eq!(verdicts_seen.len(), 6, "the paths must reach every verdict");
}

#[test]
fn the_first_rule_that_fits_decides() {
    let mut table = PathTable::new(Verdict::Local);
    table.push(RuleKind::Exact, b"/etc/config/own", Verdict::Local).unwrap();
    table.push(RuleKind::Tree, b"/etc/config/", Verdict::RemoteRead).unwrap();
    table.push(RuleKind::Undecided, b"", Verdict::Remote).unwrap();
    table.push(RuleKind::Tree, b"/", Verdict::Hidden).unwrap();
    assert_eq!(table.decide(b"/etc/config/own"), (Verdict::Local, Some(0)));
    assert_eq!(table.decide(b"/etc/config"), (Verdict::RemoteRead, Some(1)));
    assert_eq!(table.decide(b"/etc/config/a/b"), (Verdict::RemoteRead, Some(1)));
    assert_eq!(table.decide(b"/etc/configs"), (Verdict::Ask, Some(2)));
    assert_eq!(table.decide(b"relative"), (Verdict::Local, None));
}

#[test]
fn damaged_tables_are_refused() {
    let mut table = PathTable::new(Verdict::Local);
    table.push(RuleKind::Tree, b"/etc/config", Verdict::RemoteRead).unwrap();
    let good = table.to_bytes();
    assert!(PathView::from_bytes(good).is_some());
    for length in 0..good.len() {
        assert!(PathView::from_bytes(&good[..length]).is_none(), "cut to {length}");
    }
    for (index, value) in [(0, b'x'), (3, 6), (4, 2), (6, 3), (7, 6), (8, 200), (10, b'x'), (20, b'/')] {
        let mut bad = good.to_vec();
        bad[index] = value;
        assert!(PathView::from_bytes(&bad).is_none(), "byte {index}");
    }
    let mut longer = good.to_vec();
    longer.push(0);
    assert!(PathView::from_bytes(&longer).is_none());
    assert_eq!(from_text(b"0g", &mut [0; 4]), None);
    assert_eq!(from_text(b"000", &mut [0; 4]), None);
    assert_eq!(from_text(b"0000", &mut [0; 1]), None);
}

#[test]
fn a_rule_needs_an_absolute_path() {
    let mut table = PathTable::new(Verdict::Local);
    assert_eq!(
        table.push(RuleKind::Tree, b"etc", Verdict::Remote),
        Err(TableError::NotAbsolute(b"etc".to_vec()))
    );
    assert_eq!(table.decide(b"/etc"), (Verdict::Local, None), "a refused rule leaves no trace");
}
