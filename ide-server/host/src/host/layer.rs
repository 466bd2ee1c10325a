//! The layer in the debuggee's environment: in front of what the user preloads, where the loader can take it.

use crate::env;
use std::path::Path;

/// Whether the loader can be told of this file: it splits its list at spaces and colons, and programs would start with
/// a complaint of its about every piece.
pub(super) fn is_preloadable(layer: &str) -> bool {
    let fits = !layer.contains([' ', ':']) && Path::new(layer).is_file();
    if !fits {
        tracing::warn!(
            layer,
            "the fast path for local calls cannot be preloaded from there: they will be slower"
        );
    }
    fits
}

/// Puts the layer in front of what the user has preloaded.
pub(super) fn preload(environment: &mut env::Environment, layer: &str) {
    let list = environment.entry("LD_PRELOAD".into()).or_default();
    *list = joined(layer.as_ref(), list);
    // Programs built for the address sanitizer by gcc end at once when any library is loaded before its own.
    let options = environment.entry("ASAN_OPTIONS".into()).or_default();
    *options = joined(options, "verify_asan_link_order=0".as_ref());
}

/// Two lists with a colon between them, if both are there.
fn joined(first: &std::ffi::OsStr, second: &std::ffi::OsStr) -> std::ffi::OsString {
    let colon = if first.is_empty() || second.is_empty() { "" } else { ":" };
    [first, colon.as_ref(), second].into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layer_comes_before_what_the_user_preloads() {
        let mut environment = env::Environment::from([("LD_PRELOAD".into(), "/a.so:/b.so".into())]);
        preload(&mut environment, "/layer.so");
        let value = |name: &str| environment[std::ffi::OsStr::new(name)].to_string_lossy().into_owned();
        assert_eq!(value("LD_PRELOAD"), "/layer.so:/a.so:/b.so");
        assert_eq!(value("ASAN_OPTIONS"), "verify_asan_link_order=0");
        let mut environment = env::Environment::from([("ASAN_OPTIONS".into(), "detect_leaks=0".into())]);
        preload(&mut environment, "/layer.so");
        let value = |name: &str| environment[std::ffi::OsStr::new(name)].to_string_lossy().into_owned();
        assert_eq!(value("LD_PRELOAD"), "/layer.so");
        assert_eq!(value("ASAN_OPTIONS"), "detect_leaks=0:verify_asan_link_order=0");
    }

    #[test]
    fn a_layer_that_the_loader_would_split_is_not_preloaded() {
        assert!(is_preloadable("/proc/self/exe"));
        assert!(!is_preloadable("/no/such/layer.so"));
        let folder = std::env::temp_dir().join(format!("a layer {}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("layer.so"), "").unwrap();
        assert!(!is_preloadable(&folder.join("layer.so").display().to_string()));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
