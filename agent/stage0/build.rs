//! Links the static build small: it travels through the cluster's object store with every agent.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=small.ld");
    // What cargo builds for this machine's own use (tests) is linked as usual.
    if std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "musl") {
        let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        let script = format!("{folder}/small.ld");
        // For another processor the linker is called by itself, else through the C compiler.
        let flags = std::env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
        let is_direct = flags.split('\u{1f}').any(|flag| flag.ends_with("linker=rust-lld"));
        for argument in [
            &["-T", &script][..],
            &["--no-eh-frame-hdr"],
            &["-z", "pack-relative-relocs"],
            &["-z", "noseparate-code"],
            &["--strip-all"],
        ] {
            match is_direct {
                true => argument.iter().for_each(|word| println!("cargo::rustc-link-arg-bins={word}")),
                false => println!("cargo::rustc-link-arg-bins=-Wl,{}", argument.join(",")),
            }
        }
    }
}
