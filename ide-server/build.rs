//! Puts the agent and the preload layer into the binary: builds them by cargo, static and small, in a target folder of
//! their own, and writes `embedded.rs` with their bytes and hashes.
//!
//! Only a release build of the binary embeds. `cargo check` and clippy must stay fast and a debug build takes the
//! pieces from the environment (see `src/embedded.rs`).

use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let workspace = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("..");
    println!("cargo::rustc-check-cfg=cfg(embedded)");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=MIRRORD_IDE_EMBED");

    let release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let embed = match env::var("MIRRORD_IDE_EMBED").as_deref() {
        Ok("0") => false,
        Ok("1") => true,
        _ => release && asked_for_a_binary(),
    };
    if !embed {
        if release {
            // check and build share this script's run: ask to be run again until a build embeds.
            println!("cargo::rerun-if-changed=never-there");
        }
        fs::write(out.join("embedded.rs"), "")?;
        return Ok(());
    }

    for folder in ["agent", "policy", "schemas/protocol", "preload-layer", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", workspace.join(folder).display());
    }
    let target_folder = out.ancestors().nth(4).unwrap_or(&out).join("embedded");
    let arch = env::var("CARGO_CFG_TARGET_ARCH")?;
    let agent = build_agent(&workspace, &target_folder, &arch)?;
    let stage0 = build_stage0(&workspace, &target_folder, &arch)?;
    let layer = build_layer(&workspace, &target_folder, &env::var("TARGET")?)?;

    let mut text = String::new();
    for (name, file) in [("AGENT", &agent), ("STAGE0", &stage0), ("LAYER", &layer)] {
        let hash: String = Sha256::digest(fs::read(file)?).iter().map(|byte| format!("{byte:02x}")).collect();
        // Copied, so that a later run of the inner cargo does not change what an older binary's dep-info names.
        let copy = out.join(name.to_lowercase());
        fs::copy(file, &copy)?;
        text.push_str(&format!(
            "const {name}: Piece = Piece {{ bytes: include_bytes!({copy:?}), sha256: {hash:?} }};\n"
        ));
    }
    fs::write(out.join("embedded.rs"), text)?;
    println!("cargo::rustc-cfg=embedded");
    Ok(())
}

/// Whether the cargo above us was told to make something that runs. Unreadable means yes.
fn asked_for_a_binary() -> bool {
    let parent = std::os::unix::process::parent_id();
    let Ok(line) = fs::read(format!("/proc/{parent}/cmdline")) else { return true };
    let mut words = line.split(|byte| *byte == 0).skip(1);
    !words.any(|word| matches!(word, b"check" | b"c" | b"clippy" | b"doc" | b"fix" | b"metadata"))
}

fn build_agent(workspace: &Path, target_folder: &Path, arch: &str) -> io::Result<PathBuf> {
    let triple = build_static(workspace, target_folder, "agent", arch)?;
    Ok(target_folder.join(triple).join("embedded/agent"))
}

fn build_stage0(workspace: &Path, target_folder: &Path, arch: &str) -> io::Result<PathBuf> {
    let triple = build_static(workspace, target_folder, "stage0", arch)?;
    Ok(target_folder.join(triple).join("embedded/stage0"))
}

/// Builds a program that needs nothing of the image it runs in; says for which target.
fn build_static(workspace: &Path, target_folder: &Path, package: &str, arch: &str) -> io::Result<String> {
    let musl = format!("{arch}-unknown-linux-musl");
    let (triple, flags) = if is_installed(&musl) {
        (musl, "")
    } else {
        let gnu = format!("{arch}-unknown-linux-gnu");
        println!(
            "cargo::warning=target {musl} is not installed; {package} is linked statically against glibc"
        );
        (gnu, "-C target-feature=+crt-static")
    };
    cargo(workspace, target_folder, package, &triple, flags)?;
    Ok(triple)
}

fn build_layer(workspace: &Path, target_folder: &Path, triple: &str) -> io::Result<PathBuf> {
    cargo(workspace, target_folder, "preload-layer", triple, "")?;
    Ok(target_folder.join(triple).join("embedded/libpreload_layer.so"))
}

fn is_installed(triple: &str) -> bool {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).args(["--print", "target-libdir", "--target", triple]).output();
    output.is_ok_and(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir())
}

fn cargo(workspace: &Path, target_folder: &Path, package: &str, triple: &str, flags: &str) -> io::Result<()> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(workspace)
        .args([
            "build",
            "--locked",
            "--profile",
            "embedded",
            "-p",
            package,
            "--target",
            triple,
            "--target-dir",
        ])
        .arg(target_folder);
    // What cargo set for this script and the crate around it is not meant for the crates built here.
    for name in ["CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER", "CARGO_BUILD_TARGET"] {
        command.env_remove(name);
    }
    if !flags.is_empty() {
        command.env("RUSTFLAGS", flags);
    }
    let status = command.status()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("cargo build -p {package} --target {triple} failed: {status}")))
    }
}
