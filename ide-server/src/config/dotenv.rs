//! `NAME=value` lines of an env file.

/// Reads the lines: comments, `export`, quotes; within double quotes `\n`, `\t`, `\"`, `\\` and `\$`. The error names
/// the line that is none of these.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, usize> {
    let mut pairs = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=').ok_or(index + 1)?;
        let name = name.trim();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(index + 1);
        }
        pairs.push((name.to_owned(), read_value(value.trim()).ok_or(index + 1)?));
    }
    Ok(pairs)
}

fn read_value(text: &str) -> Option<String> {
    if let Some(rest) = text.strip_prefix('\'') {
        return rest.split_once('\'').map(|(value, _)| value.to_owned());
    }
    let Some(rest) = text.strip_prefix('"') else {
        // Without quotes a comment needs a space before it, so that a value may hold a #.
        return Some(text.split(" #").next().unwrap_or(text).trim_end().to_owned());
    };
    let (mut value, mut characters) = (String::new(), rest.chars());
    loop {
        match characters.next()? {
            '"' => return Some(value),
            '\\' => match characters.next()? {
                'n' => value.push('\n'),
                't' => value.push('\t'),
                'r' => value.push('\r'),
                other @ ('"' | '\\' | '$') => value.push(other),
                other => value.extend(['\\', other]),
            },
            other => value.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn quotes_comments_and_exports_are_read() {
        let text =
            "# a comment\nA=1\nexport B = two words # not this\nC='a # b'\nD=\"x\\ny\\\"\"\nE=a=b#c\nF=\n";
        let expected =
            [("A", "1"), ("B", "two words"), ("C", "a # b"), ("D", "x\ny\""), ("E", "a=b#c"), ("F", "")];
        let pairs = parse(text).unwrap();
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(pairs, expected);
    }

    #[test]
    fn a_line_that_is_none_is_named() {
        assert_eq!(parse("A=1\nnonsense"), Err(2));
        assert_eq!(parse("A=\"open"), Err(1));
        assert_eq!(parse("two words=1"), Err(1));
    }
}
