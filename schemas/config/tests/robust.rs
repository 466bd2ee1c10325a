//! Whatever the text, reading it ends, with a config or with problems.

use config_schema::{Format, parse};

const FORMATS: [Format; 3] = [Format::Json, Format::Toml, Format::Yaml];

#[test]
fn a_config_cut_off_anywhere_is_read_or_reported() {
    let folder =
        std::path::Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("../fixtures/config");
    for name in ["same-mistakes.json", "same-mistakes.toml", "same-mistakes.yaml", "wide-characters.yaml"] {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        let format = Format::of_file_name(name).unwrap();
        for (cut, _) in text.char_indices().step_by(3) {
            let parsed = parse(&text[..cut], format);
            assert_eq!(parsed.config.is_none(), parsed.has_errors(), "{name} cut at {cut}");
        }
    }
}

#[test]
fn deep_nesting_is_refused_and_harms_nothing() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for format in FORMATS {
        let text = match format {
            Format::Json => format!("{{\"a\":{deep}}}"),
            Format::Toml => format!("a = {deep}"),
            Format::Yaml => format!("a: {deep}"),
        };
        assert!(parse(&text, format).has_errors(), "{format:?}");
    }
    // Aliases of aliases go deeper than what is written.
    let mut chain = String::from("a0: &a0 [x]\n");
    for level in 1..5000 {
        chain.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
    }
    assert!(parse(&chain, Format::Yaml).has_errors());
}

#[test]
fn aliases_that_unfold_without_end_are_refused() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let last = level - 1;
        let items = vec![format!("*a{last}"); 9].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{items}]\n"));
    }
    let parsed = parse(&bomb, Format::Yaml);
    assert_eq!(parsed.problems.len(), 1);
    assert!(parsed.problems[0].message.contains("unfold"), "{}", parsed.problems[0]);
}

#[test]
fn any_short_text_is_read_or_reported() {
    for text in [
        "",
        " ",
        "\u{feff}{}",
        "null",
        "{",
        "}",
        "\"",
        "[",
        "a",
        "a:",
        "a=",
        "=",
        "---",
        "{}{}",
        "\0",
        "&a *a",
        "? a",
        "!!str x",
        "<<: x",
    ] {
        for format in FORMATS {
            let parsed = parse(text, format);
            assert_eq!(
                parsed.config.is_none(),
                parsed.has_errors(),
                "{text:?} as {format:?}: {:?}",
                parsed.problems
            );
        }
    }
}
