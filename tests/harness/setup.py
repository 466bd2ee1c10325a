"""Builds the caches of the tests: system packages, the Python venv, compiled samples, the product, the cluster.

Idempotent. Packages are installed only as root or with --install, and none is ever removed. What cannot be had is
told with the line that gets it, and the tests which need it are skipped with that reason.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from harness import places, setup_editors  # noqa: E402
from harness.image import python_root  # noqa: E402

PARTS = ["tidy", "local", "adapters", "cluster", "editors"]


class Missing(Exception):
    """Something a part needs is not there; the text says what, and how to get it."""


def say(text):
    print(f"setup: {text}", file=sys.stderr, flush=True)


def run(command, **options):
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, capture_output=True, text=True, **options)
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-12:])
        raise Missing(f"{' '.join(map(str, command[:4]))} … failed:\n{tail}")
    return done.stdout


def packages(wanted: dict[str, bool], install: bool):
    """Has the Debian packages whose test says that they are missing: installs them, or says how they are got."""
    missing = [name for name, there in wanted.items() if not there]
    if not missing:
        return
    line = ["apt-get", "install", "--no-remove", "--no-install-recommends", "-y", *missing]
    if not shutil.which("apt-get") or not install:
        raise Missing(f"{', '.join(missing)} missing; get it with: sudo {' '.join(line)}")
    say("installing " + ", ".join(missing))
    prefix = [] if os.geteuid() == 0 else ["sudo"]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        run(prefix + line, env=environment)
    except Missing:
        run([*prefix, "apt-get", "update"], env=environment)
        run(prefix + line, env=environment)


def has(*programs):
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return all(shutil.which(program, path=path) for program in programs)


def stamped(result: Path, sources: list[Path], make):
    """Runs `make` unless `result` was made from these very sources."""
    digest = hashlib.sha256()
    for source in sources:
        for file in sorted(source.rglob("*")) if source.is_dir() else [source]:
            if file.is_file():
                digest.update(file.name.encode() + file.read_bytes())
    stamp = result.parent / f".{result.name}.stamp"
    if result.exists() and stamp.exists() and stamp.read_text() == digest.hexdigest():
        return
    result.parent.mkdir(parents=True, exist_ok=True)
    say(f"making {result}")
    make()
    stamp.write_text(digest.hexdigest())


def venv(install: bool):
    """A venv with the packages of requirements.txt, on a Python that any user of this machine can start."""
    folder, wanted = places.cache() / "venv", Path(__file__).with_name("requirements.txt")

    def make():
        shutil.rmtree(folder, ignore_errors=True)
        run([sys.executable, "-m", "venv", folder])
        run([folder / "bin/pip", "install", "--quiet", "--disable-pip-version-check", "-r", wanted])

    has_venv = subprocess.run([sys.executable, "-c", "import ensurepip, venv"], capture_output=True).returncode == 0
    packages({"python3-venv": has_venv}, install)
    stamped(folder, [wanted], make)


def samples(install: bool):
    """The samples that need compiling: Go static and stripped, C static, Java when a JDK is there."""
    packages({"gcc": has("gcc"), "libc6-dev": Path("/usr/include/stdio.h").exists(), "nodejs": has("node"), "golang-go": has("go")}, install)
    cache, examples = places.cache(), places.EXAMPLES
    recipe = Path(__file__)
    go, c, java = cache / "bin/sample-go", cache / "bin/sample-c", cache / "java"
    stamped(go, [recipe, examples / "go"], lambda: run(
        ["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", go, "."], cwd=examples / "go", env=os.environ | {"CGO_ENABLED": "0"}))
    stamped(c, [recipe, examples / "c"], lambda: run(["gcc", "-O2", "-static", "-s", "-o", c, examples / "c/app.c"]))
    if has("javac"):
        stamped(java, [recipe, examples / "java"], lambda: run(["javac", "-g", "-d", java, examples / "java/App.java"]))


def probes(install: bool):
    """The programs of the conformance cases: C with three libraries, Go with and without cgo, Rust with musl, Java."""
    try:
        packages({"musl-tools": has("musl-gcc"), "ruby": has("ruby")}, install)
    except Missing as reason:
        say(f"some conformance cells are skipped: {reason}")
    source, built = places.ROOT / "tests/conformance/probes", places.cache() / "probes"
    recipe, c = Path(__file__), sorted((source / "c").glob("*.c"))

    def make(name, part, command, **options):
        stamped(built / name, [recipe, source / part], lambda: run(command, **options))

    # glibc's static archive warns that names need its shared libraries, which are there.
    for name, compiler in [("c-glibc", ["gcc"]), ("c-glibc-static", ["gcc", "-static"]), ("c-musl", ["musl-gcc", "-static"])]:
        if has(compiler[0]):
            make(name, "c", [*compiler, "-O1", "-g", "-pthread", "-Wall", "-Werror", "-Wno-unused-result", "-o", built / name, *c])
    for name, cgo, flags in [("go-static", "0", "-s -w"), ("go-cgo", "1", "")]:
        make(name, "go", ["go", "build", "-trimpath", "-ldflags", flags, "-o", built / name, "."], cwd=source / "go", env=os.environ | {"CGO_ENABLED": cgo})
    musl_target = f"{os.uname().machine}-unknown-linux-musl"
    if has("rustc") and (Path(run(["rustc", "--print", "sysroot"]).strip()) / "lib/rustlib" / musl_target).exists():
        make("rust-musl", "rust", ["rustc", "--edition", "2024", "-O", "--target", musl_target, "-o", built / "rust-musl", source / "rust/probe.rs"])
    if has("javac"):
        make("java", "java", ["javac", "-d", built / "java", *sorted((source / "java").glob("*.java"))])


def namespaces(install: bool):
    """The tools by which local targets are made, and the agent's rules looked at from outside."""
    packages({"nftables": has("nft"), "iproute2": has("ip"), "util-linux": has("unshare", "nsenter")}, install)


def tidy(install: bool):
    if not has("cargo"):
        raise Missing("cargo is missing: install Rust from https://rustup.rs")
    namespaces(install)
    venv(install)


def local(install: bool):
    """What the tests on a local target need: the venv, the samples, the product itself."""
    namespaces(install)
    venv(install)
    other = {"x86_64": "qemu-aarch64"}.get(os.uname().machine, "qemu-x86_64")
    try:
        packages({"qemu-user": has(other)}, install)
    except Missing as reason:
        say(f"agents for nodes of another processor are not tried: {reason}")
    try:
        packages({"default-jdk-headless": has("javac", "jdb")}, install)
    except Missing as reason:
        say(f"no Java here, its tests are skipped: {reason}")
    samples(install)
    probes(install)
    python_root()
    if not os.environ.get("MIRRORD_IDE_BIN"):
        musl()
        say("building the product: cargo build --release -p ide-server")
        places.build_product()
    places.product(build=False)


def musl():
    """The agents are linked static with musl where rustup can bring it; our own else with glibc's static archive."""
    if not has("rustup"):
        say("no rustup here: the agent is built with +crt-static, and there is none for nodes of another processor")
        return
    installed = run(["rustup", "target", "list", "--installed"], cwd=places.ROOT).split()
    for target in ("x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl"):
        if target not in installed:
            try:
                run(["rustup", "target", "add", target], cwd=places.ROOT)
            except Missing as reason:
                say(f"{target} cannot be had, so there is no such agent, or one with +crt-static: {reason}")


def cluster(install: bool):
    if os.geteuid() != 0:
        raise Missing("the test cluster needs root")
    try:
        packages({"podman": has("podman")}, install)
    except Missing as reason:
        say(f"no container engine here, its tests are skipped: {reason}")
    try:
        packages({"fuse3": has("fusermount3")}, install)
    except Missing as reason:
        say(f"mounts by fusermount3 are not tried: {reason}")
    build = places.ROOT / "tests/cluster/build"
    say("building the test cluster's parts (minutes when new)")
    run([build])
    source, made = places.ROOT / "tests/cluster/docker", places.cache() / "bin/docker-default"
    stamped(made, [source], lambda: run(["go", "build", "-trimpath", "-o", made, "."], cwd=source, env=os.environ | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local"}))


def adapters(install: bool):
    """The debug adapters that are no part of a venv: dlv and lldb-dap."""
    packages(setup_editors.wanted_by_adapters(), install)
    setup_editors.dlv(run)
    setup_editors.go_cache(run)


def editors(install: bool):
    packages(setup_editors.wanted(), install)
    setup_editors.code_server(say, run)
    setup_editors.tools(run)
    setup_editors.extension(run, stamped)


def set_up(parts, install: bool) -> dict[str, str]:
    """Builds the parts named; answers with the reason for each one that cannot be had. Root installs unasked."""
    install = install or os.geteuid() == 0
    os.environ.setdefault("CARGO_TARGET_DIR", str(places.target_folder()))
    places.cache().mkdir(parents=True, exist_ok=True)
    reasons = {}
    for part in parts:
        try:
            {"tidy": tidy, "local": local, "adapters": adapters, "cluster": cluster, "editors": editors}[part](install)
        except (Missing, places.NotBuilt) as reason:
            reasons[part] = str(reason)
    return reasons


def main():
    words = sys.argv[1:]
    parts = [word for word in words if word != "--install"] or PARTS
    if unknown := set(parts) - set(PARTS):
        sys.exit(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    reasons = set_up(parts, "--install" in words)
    for part, reason in reasons.items():
        print(f"{part}: {reason}", file=sys.stderr)
    sys.exit(1 if reasons else 0)


if __name__ == "__main__":
    main()
