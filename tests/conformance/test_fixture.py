"""The fixture itself, before anything is proved with it: the stand-in pod and the debug adapter client, without the product."""

import os
import subprocess
import threading
import urllib.error
import urllib.request

from harness import places
from harness.dap import Dap, free_port, line_of
from harness.local_pod import DNS_ADDRESS, LocalPod
from harness.testing import alive, equal

APP = places.EXAMPLES / "python/app.py"


def test_the_pod_answers_over_the_veth_pair_with_what_only_it_has():
    with LocalPod() as pod:
        for program, port in [("python", "80"), ("go", "81"), ("c", "82")]:
            pod.start_sample(program, env={"PORT": port})
            got = pod.say("are you there", int(port))
            wanted = {"text": "are you there", "greeting": pod.greeting, "file": pod.banner, "address": pod.names[pod.name][0],
                      "hostname": pod.hostname, "client": "198.51.100.1", "pid": 1, "program": program}
            equal(got, wanted)


def test_nothing_of_the_pod_can_be_reached_without_the_product():
    with LocalPod() as pod:
        pod.start_sample()
        port = free_port()
        with subprocess.Popen(places.sample("go"), env={"PORT": str(port), "SAMPLE_NAME": pod.name}, stdout=subprocess.PIPE, text=True) as local:
            try:
                local.stdout.readline()
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/call?url=http://{pod.address}/healthz", timeout=15) as answer:
                    assert b"error" in answer.read(), "the pod answers to this machine"
                if os.geteuid() == 65534:  # only the runner's own network is sure to have no resolver behind it
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/say?text=x", timeout=15) as answer:
                        got = answer.read().decode()
                    assert pod.greeting not in got and pod.banner not in got and '"address":"error' in got, got
            finally:
                local.kill()
    assert not os.path.exists("/etc/sample")


def test_two_pods_reach_each_other():
    with LocalPod() as first, LocalPod(beside=first) as second:
        for pod, other in ((first, second), (second, first)):
            pod.start_sample("go", env={"PORT": "80"})
            other.start_sample("go", env={"PORT": "81"})
            got = pod.client.get(pod.address, 80, f"/call?url=http://{other.address}:81/healthz")
            equal((got["status"], got["body"]), (200, '{"ok":true}\n'))


def test_nothing_is_left_of_a_closed_pod():
    with LocalPod() as pod:
        first = pod.start_sample()
        assert pod.left_behind() and alive(first)
        equal(pod.pod.nft_tables(), [])
    equal(pod.left_behind(), [])
    assert not alive(first) and not pod.folder.exists()


def test_the_pods_resolver_knows_one_name_and_denies_others():
    with LocalPod() as pod:
        pid = pod.start_sample()
        equal(pod.say("x")["address"], pod.names[pod.name][0])
        assert pod.name in pod.dns.asked
        pod.names.clear()
        assert "error" in pod.say("x")["address"]
        assert DNS_ADDRESS in open(f"/proc/{pid}/root/etc/resolv.conf").read()


def test_a_breakpoint_stops_plain_debugpy():
    port, web = free_port(), free_port()
    command = [places.venv_python(), "-m", "debugpy", "--listen", f"127.0.0.1:{port}", "--wait-for-client", APP]
    environment = os.environ | {"PORT": str(web), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as program:
        try:
            debugger = Dap.dial(port, alive=lambda: program.poll() is None)
            assert debugger.attach(str(APP), [line_of(APP, "a breakpoint here")])[0]["verified"]
            program.stdout.readline()
            answers = []

            def ask():
                try:
                    answers.append(urllib.request.urlopen(f"http://127.0.0.1:{web}/say?text=stop", timeout=20).status)
                except urllib.error.URLError as error:
                    answers.append(error)

            asking = threading.Thread(target=ask)
            asking.start()
            thread, frames, variables = debugger.stop_at_breakpoint()
            equal((frames[0]["name"], variables["text"], variables["client"]), ("say", "'stop'", "'127.0.0.1'"))
            debugger.proceed(thread)
            asking.join(20)
            equal(answers, [200])
            debugger.close()
        finally:
            program.kill()
