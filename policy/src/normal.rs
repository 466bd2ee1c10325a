//! Making a path comparable: one slash between names, no `.`, no `..`, none at the end.

/// Writes the normal form of an absolute path into `out`, by its text alone.
///
/// `..` takes the name before it away, as if that were no link: good enough to ask which world is meant, not to walk.
/// `None` for paths that are not absolute, and when `out` (as long as the path, to be sure) is too short.
#[must_use]
pub fn normalize<'out>(path: &[u8], out: &'out mut [u8]) -> Option<&'out [u8]> {
    if path.first() != Some(&b'/') {
        return None;
    }
    let mut length = 0;
    for name in path.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => length = out.get(..length)?.iter().rposition(|&byte| byte == b'/').unwrap_or(0),
            name => {
                let end = length + 1 + name.len();
                let (slash, rest) = out.get_mut(length..end)?.split_first_mut()?;
                *slash = b'/';
                rest.copy_from_slice(name);
                length = end;
            }
        }
    }
    if length == 0 {
        *out.first_mut()? = b'/';
        length = 1;
    }
    out.get(..length)
}

#[cfg(test)]
mod tests {
    use super::normalize;

    fn normal(path: &str) -> Option<String> {
        let mut out = [0; 64];
        normalize(path.as_bytes(), &mut out).map(|path| String::from_utf8(path.to_vec()).unwrap())
    }

    #[test]
    fn spellings_of_one_path_become_one() {
        for (path, expected) in [
            ("/", "/"),
            ("//", "/"),
            ("/..", "/"),
            ("/../..", "/"),
            ("/a", "/a"),
            ("/a/", "/a"),
            ("//a//b/./c/.", "/a/b/c"),
            ("/pod/../etc/hostname", "/etc/hostname"),
            ("/a/b/../../../c", "/c"),
            ("/a/..", "/"),
            ("/a/...", "/a/..."),
            ("/..a/.b", "/..a/.b"),
        ] {
            assert_eq!(normal(path).as_deref(), Some(expected), "{path}");
        }
    }

    #[test]
    fn relative_and_overlong_paths_have_none() {
        assert_eq!(normal("a/b"), None);
        assert_eq!(normal(""), None);
        assert_eq!(normal(&format!("/{}", "x".repeat(64))), None);
        assert!(normal(&format!("/{}", "x".repeat(63))).is_some());
        assert_eq!(normalize(b"/", &mut []), None);
    }
}
