//! What a path says by its text alone.

#![forbid(unsafe_code)]

/// A path that was looked through once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Path<'a> {
    /// All of it.
    pub(crate) text: &'a [u8],
    /// The first name that is neither empty nor `.`; empty when there is none.
    pub(crate) first: &'a [u8],
    /// Whether `..` is one of its names.
    pub(crate) climbs: bool,
    /// Whether it is spelled as `policy::normalize` would spell it, but for a missing or present first slash.
    pub(crate) normal: bool,
}

impl<'a> Path<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        // One slash at the end is so common (a folder's name) that it is taken off rather than called abnormal.
        let text = match text {
            [rest @ .., b'/'] if !rest.is_empty() => rest,
            text => text,
        };
        let mut path = Self { text, first: b"", climbs: false, normal: true };
        let names = match text {
            b"/" => return path,
            [b'/', names @ ..] => names,
            names => names,
        };
        for name in names.split(|&byte| byte == b'/') {
            match name {
                b"" | b"." => path.normal = false,
                b".." => path.climbs = true,
                name if path.first.is_empty() => path.first = name,
                _ => {}
            }
        }
        path
    }

    pub(crate) fn is_absolute(&self) -> bool {
        self.text.first() == Some(&b'/')
    }
}

#[cfg(test)]
mod tests {
    use super::Path;

    #[test]
    fn a_path_is_described() {
        let seen = |text: &'static str| {
            let path = Path::new(text.as_bytes());
            (str::from_utf8(path.first).unwrap(), path.is_absolute(), path.climbs, path.normal)
        };
        assert_eq!(seen("/usr/lib/x"), ("usr", true, false, true));
        assert_eq!(seen("/usr/lib/"), ("usr", true, false, true));
        assert_eq!(seen("usr"), ("usr", false, false, true));
        assert_eq!(seen("/"), ("", true, false, true));
        assert_eq!(seen("."), ("", false, false, false));
        assert_eq!(seen("./a/b"), ("a", false, false, false));
        assert_eq!(seen("//a"), ("a", true, false, false));
        assert_eq!(seen("/a//b"), ("a", true, false, false));
        assert_eq!(seen("a/../b"), ("a", false, true, true));
        assert_eq!(seen("/.."), ("", true, true, true));
        assert_eq!(seen("..a/.b"), ("..a", false, false, true));
    }
}
