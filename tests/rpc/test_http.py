"""The daemon's second door, as a script sees it: HTTP and WebSocket on a Unix socket, the same methods, the same errors."""

import json
import os
import stat

from harness.http_door import UnixHttp, WebSocket
from harness.laptop import Laptop
from harness.local_pod import LocalPod
from harness.testing import contains, equal, eventually
from harness.wire import Refused, Wire


def doors(laptop) -> tuple[str, str]:
    told = laptop.json("serve", "--ensure")
    return told["socket"], told["httpSocket"]


def refusal(call):
    try:
        call()
    except Refused as error:
        return error.code, error.message, error.data
    raise AssertionError("it was answered")


def test_both_doors_give_the_same_answers():
    text = '{"feature": {"network": {"incoming": {"mode": "steal", "outgoing": true}}}}'
    with Laptop() as laptop:
        lsp, door = doors(laptop)
        with Wire(lsp) as wire, UnixHttp(door) as http, WebSocket(door) as web:
            for method, params in [("session/list", None), ("config/verify", {"folder": str(laptop.folder), "file": "mirrord.json", "text": text})]:
                wanted = wire.request(method, params)
                equal(http.call(method, params), wanted, f"{method} over HTTP")
                equal(web.call(method, params), wanted, f"{method} over a WebSocket")
            equal([door.call("daemon/status")["clients"] for door in (http, web)], [3, 3], "clients of both doors")
            for name in ("target/list", "session/start", "session/stop"):
                assert name in http.call("initialize")["capabilities"]["experimental"]["ide"]["methods"]


def test_errors_have_the_same_code_and_data():
    with Laptop() as laptop:
        lsp, door = doors(laptop)
        with Wire(lsp) as wire, UnixHttp(door) as http, WebSocket(door) as web:
            start = {"config": {"folder": str(laptop.folder), "overrides": {"target": "process/2147483000"}}}
            for method, params in [("session/start", start), ("config/verify", {"folder": 7}), ("session/stop", {"session": "nowhere"})]:
                wanted = refusal(lambda: wire.request(method, params))
                equal(refusal(lambda: http.call(method, params)), wanted, f"{method} over HTTP")
                equal(refusal(lambda: web.call(method, params)), wanted, f"{method} over a WebSocket")
            equal(refusal(lambda: http.call("no/such/method"))[0], -32601)
            status, body = http.post(b"this is no JSON")
            equal(json.loads(body)["error"]["code"], -32700, body)


def test_only_the_user_reaches_the_socket():
    with Laptop() as laptop:
        assert not stat.S_IMODE(os.stat(doors(laptop)[1]).st_mode) & 0o077


def test_a_request_that_is_too_long_is_refused_and_ends_nothing_else():
    with Laptop() as laptop:
        door = doors(laptop)[1]
        with UnixHttp(door) as http:
            status = http.status_of(b'{"jsonrpc": "2.0", "id": 1, "method": "config/verify", "params": "' + b"x" * (5 << 20) + b'"}')
            equal(status, 413)
        with UnixHttp(door) as http:
            equal(http.call("session/list"), {"sessions": []})


def test_a_websocket_is_told_the_steps_and_events_of_its_session():
    with LocalPod() as pod, Laptop() as laptop:
        pid = pod.start_sample()
        lsp, door = doors(laptop)
        with Wire(lsp) as watcher:
            web = WebSocket(door)
            web.call("daemon/subscribe")
            contains(refusal(lambda: web.call("daemon/subscribe"))[1], "subscribed already")
            started = web.call("session/start", {"config": {"folder": str(laptop.folder), "overrides": {"target": f"process/{pid}"}},
                                                 "events": True, "workDoneToken": "steps"})
            steps = [told["params"]["value"]["kind"] for told in web.told if told["method"] == "$/progress" and told["params"]["token"] == "steps"]
            equal((steps[0], steps[-1]), ("begin", "end"))
            eventually(lambda: any(told["method"] == "session/event" and told["params"]["session"] == started["session"] for told in web.told),
                       "an event of the session")
            equal([one["session"] for one in watcher.request("session/list", {})["sessions"]], [started["session"]])
            web.drop()  # no session host came: the session belongs to the connection
            eventually(lambda: watcher.request("session/list", {})["sessions"] == [], "the session is gone with its connection")
            eventually(lambda: watcher.request("daemon/status", {})["clients"] == 1, "the client is forgotten")


def test_a_client_that_leaves_in_the_middle_of_a_start_takes_it_back():
    with LocalPod() as pod, Laptop() as laptop:
        pid = pod.start_sample()
        lsp, door = doors(laptop)
        with Wire(lsp) as watcher:
            for make in (WebSocket, UnixHttp):
                for _ in range(5):
                    client = make(door)
                    params = {"config": {"folder": str(laptop.folder), "overrides": {"target": f"process/{pid}"}}}
                    if make is WebSocket:
                        client.send("session/start", params)
                        client.drop()
                    else:
                        client.request("POST", "/", json.dumps({"jsonrpc": "2.0", "id": 1, "method": "session/start", "params": params}),
                                       {"Content-Type": "application/json"})
                        client.close()
            eventually(lambda: watcher.request("session/list", {})["sessions"] == [], "no session is left")
            eventually(lambda: watcher.request("daemon/status", {})["clients"] == 1, "no client is left")
        equal(laptop.stop_all().returncode, 0)
        equal(laptop.left_behind(), [])
