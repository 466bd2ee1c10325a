//! Links the static build small: it travels through the cluster's object store with every agent.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=small.ld");
    // What cargo builds for this machine's own use (tests) is linked as usual.
    if std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "musl") {
        let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{folder}/small.ld");
        for argument in ["--no-eh-frame-hdr", "-z,pack-relative-relocs", "-z,noseparate-code", "--strip-all"]
        {
            println!("cargo::rustc-link-arg-bins=-Wl,{argument}");
        }
    }
}
