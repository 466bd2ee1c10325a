//! What no single setting can tell: settings that exclude each other, and settings that likely were not meant so.

mod conflicts;
mod patterns;

use crate::MirrordConfig;
use crate::decode::Context;
use crate::status;
use crate::tree::Node;

/// Checks a config that was read, with its tree for the places.
pub(crate) fn check(config: &MirrordConfig, tree: &Node, context: &mut Context<'_>) {
    status::warn(tree, context);
    patterns::check(tree, context);
    conflicts::check(config, tree, context);
}
