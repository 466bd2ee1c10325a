"""The daemon as an editor sees it: its socket, its methods, its errors, several clients, and its own death."""

import json
import os
import signal
import stat
import threading

from harness.laptop import Laptop
from harness.local_pod import LocalPod
from harness.testing import alive, contains, equal, eventually
from harness.wire import Refused, Wire


def daemon(laptop) -> dict:
    return laptop.json("serve", "--ensure")


def test_ensure_starts_one_daemon_and_finds_it_again():
    with Laptop() as laptop:
        found = []
        threads = [threading.Thread(target=lambda: found.append(daemon(laptop))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        equal(len({one["pid"] for one in found}), 1, "daemons")
        equal(found[0]["socket"], str(laptop.state / f"ide-v{found[0]['protocols'][-1]}.sock"))


def test_only_the_user_reaches_the_socket():
    with Laptop() as laptop:
        path = daemon(laptop)["socket"]
        equal(stat.S_IMODE(os.stat(laptop.state).st_mode), 0o700)
        assert not stat.S_IMODE(os.stat(path).st_mode) & 0o077


def test_initialize_names_protocol_and_methods():
    with Laptop() as laptop, Wire(daemon(laptop)["socket"]) as wire:
        ours = wire.welcome["capabilities"]["experimental"]["ide"]
        equal(ours["protocol"], 1)
        for method in ("target/list", "session/start", "session/list", "session/stop", "config/verify", "daemon/status"):
            assert method in ours["methods"], f"{method} is not offered: {ours['methods']}"


def test_a_request_before_initialize_is_refused():
    with Laptop() as laptop, Wire(daemon(laptop)["socket"], initialize=False) as wire:
        try:
            wire.request("daemon/status", {})
        except Refused as error:
            equal(error.code, -32002)
        else:
            raise AssertionError("answered before initialize")


def test_an_unknown_method_and_bad_parameters_have_their_codes():
    with Laptop() as laptop, Wire(daemon(laptop)["socket"]) as wire:
        for method, params, code in [("no/such/method", {}, -32601), ("config/verify", {"folder": 7}, -32602)]:
            try:
                wire.request(method, params)
            except Refused as error:
                equal(error.code, code, method)
            else:
                raise AssertionError(f"{method} was answered")


def test_a_config_with_problems_is_an_answer_that_names_their_places():
    text = '{\n  "feature": {"network": {"incoming": {"mode": "steal", "outgoing": true}}}\n}\n'
    with Laptop() as laptop, Wire(daemon(laptop)["socket"]) as wire:
        got = wire.request("config/verify", {"folder": str(laptop.folder), "file": "mirrord.json", "text": text})
        equal((got["ok"], len(got["diagnostics"])), (False, 1))
        problem = got["diagnostics"][0]
        equal((problem["severity"], problem["range"]["start"]["line"]), ("error", 1))
        contains(problem["message"], "feature.network.outgoing")


def test_several_clients_are_counted_and_one_leaving_disturbs_no_other():
    with Laptop() as laptop:
        path = daemon(laptop)["socket"]
        with Wire(path) as first:
            with Wire(path) as second:
                equal(second.request("daemon/status", {})["clients"], 2)
            eventually(lambda: first.request("daemon/status", {})["clients"] == 1, "one client is left")
            broken = Wire(path)
            broken.connection.sendall(b"Content-Length: 5\r\n\r\n{]{]{")
            eventually(lambda: broken.gone or broken.strays, "nonsense is answered or ends its connection")
            broken.drop()
            equal(first.request("session/list", {}), {"sessions": []})


def test_a_session_of_no_such_target_is_refused_with_kind_and_help():
    with Laptop() as laptop, Wire(daemon(laptop)["socket"]) as wire:
        try:
            wire.request("session/start", {"config": {"folder": str(laptop.folder), "overrides": {"target": "process/2147483000"}}})
        except Refused as error:
            equal((error.code, error.data["kind"]), (-32012, "target-not-found"))
            assert error.data["help"], "no help"
        else:
            raise AssertionError("started a session on nothing")


def test_a_started_session_is_listed_told_about_and_ends_with_its_connection():
    with LocalPod() as pod, Laptop() as laptop:
        pid = pod.start_sample()
        path = daemon(laptop)["socket"]
        with Wire(path) as watcher:
            owner = Wire(path)
            started = owner.request("session/start", {"config": {"folder": str(laptop.folder), "overrides": {"target": f"process/{pid}"}}, "events": True})
            listed = watcher.request("session/list", {})["sessions"]
            equal([one["session"] for one in listed], [started["session"]])
            owner.drop()  # no session host came: the session belongs to the connection
            eventually(lambda: watcher.request("session/list", {})["sessions"] == [], "the session is gone with its connection")


def test_a_killed_daemon_comes_back_with_the_running_session():
    with LocalPod() as pod, Laptop() as laptop:
        pid = pod.start_sample()
        first = daemon(laptop)
        session = laptop.exec(f"process/{pid}", ["sh", "-c", "echo running; exec sleep 1000"])
        session.wait_for("running")
        os.kill(first["pid"], signal.SIGKILL)
        eventually(lambda: not alive(first["pid"]), "the first daemon is dead")
        second = daemon(laptop)
        assert second["pid"] != first["pid"] and session.alive()
        with Wire(second["socket"]) as wire:
            listed = eventually(lambda: wire.request("session/list", {})["sessions"], "the session is known again")
            equal(len(listed), 1)
            contains(" ".join(listed[0]["command"]), "sleep 1000")
            wire.request("session/stop", {"session": listed[0]["session"]})
            session.wait(10)
            equal(wire.request("session/list", {}), {"sessions": []})


def test_status_and_list_of_the_command_line_are_the_same_truth():
    with Laptop() as laptop:
        daemon(laptop)
        done = laptop.run("status")
        equal(done.returncode, 0, done.stderr)
        done = laptop.run("ls", "--json")
        if done.returncode == 0:
            json.loads(done.stdout)
