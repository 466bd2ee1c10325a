//! Patterns that stand as keys of a map, where reading the map's values does not see them.

use crate::decode::{Context, check_path_pattern};
use crate::tree::{At, Node};

const PATTERN_MAPS: &[&str] = &["feature.fs.mapping", "feature.env.mapping"];

pub(super) fn check(tree: &Node, context: &mut Context<'_>) {
    for path in PATTERN_MAPS {
        let Some(map) = path.split('.').try_fold(tree, |node, key| Some(&node.entry(key)?.value)) else {
            continue;
        };
        for entry in map.entries() {
            let at = At::root().key(&format!("{path}.{}", entry.key));
            check_path_pattern(&entry.key, entry.key_span.clone(), &at, context);
        }
    }
}
