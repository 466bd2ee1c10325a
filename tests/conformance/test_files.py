"""A program changes files of the pod: what its calls answer, and what is then found inside the pod."""

import hashlib
import os
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import places
from harness.scene import LocalScene
from harness.setup import has
from harness.testing import Skip, equal, limit

PROGRAMS = Path(__file__).with_name("programs")
WRITABLE = {"fs": {"read_write": ["^/data(/|$)"]}, "network": {"incoming": "off"}}


def inside(scene: LocalScene, path: str) -> Path:
    """A path of the pod, as this machine reaches it."""
    return Path(f"/proc/{scene.pid}/root{path}")


def tree(root: Path) -> dict:
    """All that is below a folder: kind, permissions, names, and content, text or nothing."""
    found = {}
    for path in sorted(root.rglob("*")):
        meta = path.lstat()
        if stat.S_ISREG(meta.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            content = os.readlink(path) if path.is_symlink() else ""
        links = 0 if path.is_dir() and not path.is_symlink() else meta.st_nlink
        found[str(path.relative_to(root))] = (oct(meta.st_mode), links, content)
    return found


def same_as_natively(command):
    """Runs a program on a folder of this machine, then on one of the pod: same answers, same files."""
    with tempfile.TemporaryDirectory() as folder:
        natively = subprocess.run([*command, folder], capture_output=True, text=True, timeout=30)
        equal(natively.returncode, 0, natively.stderr)
        with LocalScene(scratch={"/data": "4m"}) as scene:
            session = scene.exec([*command, "/data"], feature=WRITABLE)
            equal(session.wait(), 0, session.printed())
            equal(session.stdout.splitlines(), natively.stdout.splitlines(), "what the calls answered")
            equal(tree(inside(scene, "/data")), tree(Path(folder)), "what is there")
            scene.check_nothing_left()


def test_a_dynamic_program_changes_files_as_on_its_own_machine():
    same_as_natively([sys.executable, str(PROGRAMS / "changes.py")])


def test_a_static_program_changes_files_as_on_its_own_machine():
    if not has("gcc"):
        raise Skip("no gcc here: apt-get install gcc libc6-dev")
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/changes"
        subprocess.run(["gcc", "-O1", "-static", "-o", program, PROGRAMS / "changes.c"], check=True)
        same_as_natively([program])


def shell(script: str, *arguments):
    return ["sh", "-ec", script, "sh", *arguments]


@limit(90)
def test_ordinary_tools_write_to_the_pod():
    script = """
D="$1"; umask 022
mkdir -p "$D/a/b/c"
echo one > "$D/a/one"; echo two >> "$D/a/one"
cp "$D/a/one" "$D/a/b/copy"; cp -p "$D/a/one" "$D/a/b/kept"
mv "$D/a/b/copy" "$D/a/b/c/moved"
ln -s ../one "$D/a/b/link"; ln "$D/a/one" "$D/a/b/hard"
chmod 600 "$D/a/b/kept"
touch -d 2001-02-03T04:05:06Z "$D/a/b/hard"
head -c 300000 /dev/zero > "$D/a/big"
sed -i s/one/ONE/ "$D/a/one"
cd "$D"; tar cf a.tar a; mkdir out; tar xf a.tar -C out; rm a.tar; pwd | sed "s,$D,in the folder,"
find . | sort; cd a/b; cat ../one; cd /; pwd
rm -r "$D/a/b/c"
truncate -s 10 "$D/a/big"
find "$D" | sed "s,$D,," | sort
stat -c '%s %a %Y' "$D/a/b/hard"
cat "$D/a/one" "$D/a/b/kept"
"""
    same_as_natively(shell(script))


def test_only_what_the_config_names_can_be_written():
    script = """
for path in "$@"; do
  if (echo x > "$path/new") 2>/dev/null; then echo "$path is written"; else mkdir "$path/folder" 2>&1 | sed 's/.*: //'; fi
done
"""
    feature = WRITABLE | {"fs": {"read_write": ["^/data"], "not_found": ["hidden"]}}
    with LocalScene(scratch={"/data": "1m"}) as scene:
        inside(scene, "/data/hidden").mkdir()
        session = scene.exec(shell(script, "/data", "/etc/sample", "/data/hidden"), feature=feature, env={"LC_ALL": "C"})
        session.wait()
        equal(session.stdout.splitlines(), ["/data is written", "Read-only file system", "No such file or directory"], session.printed())
        equal(inside(scene, "/data/new").read_text(), "x\n")
        equal(os.listdir(inside(scene, "/data/hidden")), [])
        scene.check_nothing_left()


def test_between_pod_and_machine_nothing_is_renamed():
    program = "import os, sys\ntry: os.rename(*sys.argv[1:])\nexcept OSError as e: print(e.errno)\nelse: print('renamed')"
    with LocalScene(scratch={"/data": "1m"}) as scene, tempfile.TemporaryDirectory() as folder:
        inside(scene, "/data/file").write_text("pod")
        Path(folder, "file").write_text("machine")
        for source, target in [("/data/file", f"{folder}/new"), (f"{folder}/file", "/data/new"), ("/etc/sample/banner.txt", "/data/new")]:
            session = scene.exec([sys.executable, "-c", program, source, target], feature=WRITABLE)
            equal((session.wait(), session.stdout.strip()), (0, "18"), f"{source} to {target}: EXDEV")
        session = scene.exec(["mv", "/data/file", f"{folder}/moved"], feature=WRITABLE)
        equal((session.wait(), Path(folder, "moved").read_text()), (0, "pod"), session.printed())
        assert not inside(scene, "/data/file").exists()
        scene.check_nothing_left()


def test_a_full_volume_is_told():
    program = """
import os
descriptor = os.open("/data/file", os.O_WRONLY | os.O_CREAT, 0o600)
try:
    total = 0
    while True:
        total += os.write(descriptor, b"x" * 65536)
except OSError as error:
    print(total, error.errno)
"""
    with LocalScene(scratch={"/data": "256k"}) as scene:
        session = scene.exec([sys.executable, "-c", program], feature=WRITABLE)
        equal((session.wait(), session.stdout.split()), (0, ["262144", "28"]), session.printed())
        equal(inside(scene, "/data/file").stat().st_size, 262144)
        scene.check_nothing_left()


def test_appends_of_two_programs_and_the_pod_itself_do_not_tear():
    program = """
import sys
with open("/data/log", "ab", buffering=0) as log:
    for number in range(200):
        log.write(f"{sys.argv[1]} {number:04}\\n".encode())
"""
    with LocalScene(scratch={"/data": "1m"}) as scene:
        script = "for name in one two; do \"$1\" -c \"$2\" $name & done; wait"
        log = inside(scene, "/data/log")
        session = scene.exec(["sh", "-c", script, "sh", sys.executable, program], feature=WRITABLE)
        pods = 0
        with open(log, "ab", buffering=0) as file:
            while session.alive() and pods < 20_000:
                file.write(f"pod {pods:05}\n".encode())
                pods += 1
                time.sleep(0.0005)
        equal(session.wait(30), 0, session.printed())
        lines = log.read_text().splitlines()
        for name, wanted in [("one", [f"one {number:04}" for number in range(200)]), ("two", [f"two {number:04}" for number in range(200)]),
                             ("pod", [f"pod {number:05}" for number in range(pods)])]:
            equal([line for line in lines if line.startswith(name)], wanted, name)
        equal(len(lines), 400 + pods)
        scene.check_nothing_left()


def test_in_write_mode_the_pods_files_are_written_and_ones_own_are_not():
    with LocalScene(scratch={"/data": "1m"}) as scene, tempfile.TemporaryDirectory() as folder:
        script = f"echo pod > /data/made; echo machine > {folder}/made; cat /data/made"
        session = scene.exec(["sh", "-ec", script], feature={"fs": "write", "network": {"incoming": "off"}})
        equal((session.wait(), session.stdout), (0, "pod\n"), session.printed())
        equal((inside(scene, "/data/made").read_text(), Path(folder, "made").read_text()), ("pod\n", "machine\n"))
        assert not inside(scene, f"{folder}/made").exists()
        scene.check_nothing_left()


def test_in_local_with_overrides_only_what_is_named_is_the_pods():
    feature = {"fs": {"mode": "localwithoverrides", "read_only": ["^/srv/data"]}, "network": {"incoming": "off"}}
    with LocalScene(scratch={"/srv/data": "1m"}) as scene:
        inside(scene, "/srv/data/file").write_text("pod")
        script = "cat /srv/data/file; test -e /srv/app.py && echo theirs; test -e /data && echo all; test -e /etc/sample && echo mounts"
        session = scene.exec(["sh", "-c", script], feature=feature)
        equal((session.wait(), session.stdout), (0, "podmounts\n"), session.printed())
        scene.check_nothing_left()


def test_a_mapping_has_one_path_stand_for_another():
    script = """
import os
os.makedirs("/var/log/app/old")
with open("/var/log/app/now", "w") as log: log.write("pod")
os.rename("/var/log/app/now", "/var/log/app/old/then")
os.mkdir("/made-up/folder")
with open("/made-up/file", "w") as file: file.write("machine")
os.symlink("file", "/made-up/link")
os.utime("/made-up/file", (1, 2))
print(sorted(os.listdir("/made-up")), os.readlink("/made-up/link"), int(os.stat("/made-up/link").st_mtime), os.path.exists("/second"))
"""
    with LocalScene(scratch={"/data": "1m"}) as scene, tempfile.TemporaryDirectory() as folder:
        fs = {"read_write": ["^/data"], "mapping": {"^/var/log/app(.*)": "/data/logs$1", "^/made-up": folder, "^/made-up|^/second": "/data"}}
        session = scene.exec([sys.executable, "-c", script], feature=WRITABLE | {"fs": fs})
        equal((session.wait(), session.stdout.strip()), (0, "['file', 'folder', 'link'] file 2 True"), session.printed())
        equal(inside(scene, "/data/logs/old/then").read_text(), "pod")
        equal(Path(folder, "file").read_text(), "machine")
        scene.check_nothing_left()
