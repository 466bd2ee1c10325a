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
    let own = env::var("CARGO_CFG_TARGET_ARCH")?;
    let embedding = Embedding { workspace: &workspace, target_folder: &target_folder, out: &out };
    let layer = embedding.layer(&env::var("TARGET")?)?;
    let mut text = format!("const LAYER: Piece = {};\n", embedding.piece("layer", &layer)?);
    text.push_str("const AGENTS: &[AgentPieces] = &[\n");
    for arch in ARCHITECTURES {
        let Some(how) = Linking::choose(arch, &own) else {
            println!(
                "cargo::warning=no agent for {arch} nodes in this build: `rustup target add {}` brings what it takes",
                musl(arch)
            );
            continue;
        };
        let agent = embedding.piece(&format!("agent-{arch}"), &embedding.program("agent", &how)?)?;
        let stage0 = embedding.piece(&format!("stage0-{arch}"), &embedding.program("stage0", &how)?)?;
        text.push_str(&format!("AgentPieces {{ arch: {arch:?}, agent: {agent}, stage0: {stage0} }},\n"));
    }
    text.push_str("];\n");
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

/// Processors of nodes that agents are built for.
const ARCHITECTURES: [&str; 2] = ["x86_64", "aarch64"];

fn musl(arch: &str) -> String {
    format!("{arch}-unknown-linux-musl")
}

/// How a program is built that needs nothing of the image it runs in.
struct Linking {
    triple: String,
    flags: &'static str,
}

impl Linking {
    /// `None` where nothing is installed that builds for another processor.
    fn choose(arch: &str, own: &str) -> Option<Self> {
        let triple = musl(arch);
        match (is_installed(&triple), arch == own) {
            (true, true) => Some(Self { triple, flags: "" }),
            // The toolchain's own linker and musl's own start files: no C compiler for that processor is needed.
            (true, false) => Some(Self { triple, flags: "-C linker=rust-lld -C link-self-contained=yes" }),
            (false, true) => {
                println!(
                    "cargo::warning=target {triple} is not installed; the agent is linked statically against glibc"
                );
                let triple = format!("{arch}-unknown-linux-gnu");
                Some(Self { triple, flags: "-C target-feature=+crt-static" })
            }
            (false, false) => None,
        }
    }
}

/// Where things are built and put.
struct Embedding<'a> {
    workspace: &'a Path,
    target_folder: &'a Path,
    out: &'a Path,
}

impl Embedding<'_> {
    fn program(&self, package: &str, how: &Linking) -> io::Result<PathBuf> {
        cargo(self.workspace, self.target_folder, package, &how.triple, how.flags)?;
        Ok(self.target_folder.join(&how.triple).join("embedded").join(package))
    }

    fn layer(&self, triple: &str) -> io::Result<PathBuf> {
        cargo(self.workspace, self.target_folder, "preload-layer", triple, "")?;
        Ok(self.target_folder.join(triple).join("embedded/libpreload_layer.so"))
    }

    /// The expression that is a file with its hash.
    fn piece(&self, name: &str, file: &Path) -> io::Result<String> {
        let hash: String = Sha256::digest(fs::read(file)?).iter().map(|byte| format!("{byte:02x}")).collect();
        // Copied, so that a later run of the inner cargo does not change what an older binary's dep-info names.
        let copy = self.out.join(name);
        fs::copy(file, &copy)?;
        Ok(format!("Piece {{ bytes: include_bytes!({copy:?}), sha256: {hash:?} }}"))
    }
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
