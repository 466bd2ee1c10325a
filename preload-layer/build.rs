//! Linker options: every process that a debuggee starts loads the layer, so it is mapped in as few pieces as can be.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Resolved while loading: a first call inside a signal handler must not enter the loader. No code to start C with,
    // since nothing here needs it; nothing to be made read-only after loading, which is a call and a mapping more.
    for option in ["-Wl,-z,now", "-Wl,-z,noseparate-code", "-Wl,-z,norelro", "-nostartfiles"] {
        println!("cargo::rustc-cdylib-link-arg={option}");
    }
}
