//! Linker options: every process that a debuggee starts loads the layer, so it is mapped in as few pieces as can be.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Resolved while loading: a first call inside a signal handler must not enter the loader.
    for option in ["-Wl,-z,now", "-Wl,-z,noseparate-code", "-Wl,--as-needed"] {
        println!("cargo::rustc-cdylib-link-arg={option}");
    }
}
