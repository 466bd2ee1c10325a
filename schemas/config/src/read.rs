//! From a text to the tree, one small reader a format. The parsers are other people's; here their results get
//! one shape and their complaints one voice.

mod json;
mod toml;
mod yaml;

use crate::decode::Context;
use crate::tree::Node;
use crate::{Code, Format};

/// Reads the text; problems go to the context. `None` if there is no tree to go on with.
pub(crate) fn read(text: &str, format: Format, context: &mut Context<'_>) -> Option<Node> {
    let tree = match format {
        Format::Json => json::read(text, context),
        Format::Toml => toml::read(text, context),
        Format::Yaml => yaml::read(text, context),
    }?;
    if !tree.is_map() {
        context
            .error(
                Code::WrongType,
                "",
                tree.span.clone(),
                format!("the config is {}, not an object", tree.kind()),
            )
            .help("start with an object of settings, for example one with `target` and `feature`");
        return None;
    }
    Some(tree)
}
