"""The first command a newcomer types does what it says, as a user without any privilege."""

import os
import re
import subprocess
import sys
import tempfile

from harness import places
from harness.testing import contains, equal


def demo(*words):
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {"HOME": home, "XDG_CACHE_HOME": f"{home}/.cache"}
        return subprocess.run([sys.executable, str(places.EXAMPLES / "demo"), *words], env=environment, capture_output=True, text=True, timeout=55)


def test_the_demo_shows_the_stop_and_the_answer_with_the_text_it_was_given():
    done = demo("--say", "a made-up text")
    equal(done.returncode, 0, done.stdout + done.stderr)
    contains(done.stdout, "text = 'a made-up text'")
    contains(done.stdout, "text 'a made-up text'")
    assert re.search(r"✓ clean", done.stdout), done.stdout


def test_the_demo_makes_up_its_values_anew():
    greetings = {re.search(r"env '(hello-\w+)'", demo("--program", "go").stdout)[1] for _ in range(2)}
    equal(len(greetings), 2)


def test_the_demo_runs_a_stripped_static_go_server():
    done = demo("--program", "go", "--say", "static")
    equal(done.returncode, 0, done.stdout + done.stderr)
    contains(done.stdout, "text 'static'")
