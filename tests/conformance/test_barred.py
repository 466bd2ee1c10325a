"""Where user namespaces are barred, as on some distributions, the demo still does the job, against a plain process."""

import os
import re
import subprocess
import sys
import tempfile

from harness import places
from harness.testing import contains, equal

# The limit is that of the user namespace it is written in: one made for it bars them to what runs there, and to
# nobody else on this machine. What is run has no capability, as it would have none outside.
BARRED = ["unshare", "--user", "--map-current-user", "--keep-caps", "sh", "-ec",
          'echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --inh-caps=-all --ambient-caps=-all --bounding-set=-all -- "$@"', "sh"]


def demo(*words):
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {"HOME": home, "XDG_CACHE_HOME": f"{home}/.cache"}
        command = [*BARRED, sys.executable, str(places.EXAMPLES / "demo"), *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=55)


def test_user_namespaces_really_are_barred_in_these_tests():
    done = subprocess.run([*BARRED, "sh", "-c", "cat /proc/sys/user/max_user_namespaces; grep CapBnd /proc/self/status; unshare --user true"],
                          capture_output=True, text=True, timeout=10)
    equal((done.stdout.split()[0], int(done.stdout.split()[2], 16)), ("0", 0))
    assert done.returncode != 0, "a user namespace was made"
    contains(done.stderr, "unshare")


def check(done, text):
    equal(done.returncode, 0, done.stdout + done.stderr)
    equal(len(re.findall(r"✓ left out", done.stdout)), 1, done.stdout)
    held = re.search(r"✓ held      the agent listens at (127\.0\.0\.1:\d+) in front of port (\d+)", done.stdout)
    assert held and held[1] != f"127.0.0.1:{held[2]}", done.stdout
    contains(done.stdout, f"GET http://{held[1]}/say?text={text}")
    contains(done.stdout, f"text {text!r}")
    assert re.search(r"✓ clean", done.stdout), done.stdout


def test_the_demo_stops_at_the_breakpoint_by_a_request_to_the_held_port():
    done = demo("--say", "held back")
    check(done, "held back")
    contains(done.stdout, "text = 'held back'")


def test_a_static_program_answers_for_the_plain_process():
    check(demo("--program", "go", "--say", "static"), "static")
