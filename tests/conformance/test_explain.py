"""`mirrord-ide explain`: what it says is what happens."""

from harness import main_job, places
from harness.scene import LocalScene
from harness.testing import contains, equal


def test_explain_tells_where_paths_and_addresses_go_and_what_says_so():
    with LocalScene() as scene:
        equal(scene.laptop.run("explain", "/etc/hosts").returncode, 72, "the exit status without a session")
        feature = {"network": {"incoming": {"mode": "steal"}, "outgoing": {"udp": False}}}
        session = scene.exec(places.sample("go"), feature=feature)
        session.wait_for(main_job.LISTENING)
        scene.wait_until_taken(session)
        tcp, udp = "feature.network.outgoing.tcp", "feature.network.outgoing.udp"
        for what, place, rule in [
            ("/etc/sample/banner.txt", "remote-read", "/etc/sample"),
            ("/etc/sample/../sample/./banner.txt", "remote-read", "/etc/sample"),
            ("/usr/lib", "local", "no rule"),
            (f"{scene.name}:80", "remote", tcp),
            ("192.0.2.9:80", "remote", tcp),
            ("udp:192.0.2.9:99", "local", udp),
            ("udp:192.0.2.9:53", "remote", "feature.network.dns.enabled"),
            (f"127.0.0.1:{scene.port}", "local", "a program of the session listens there"),
            ("[fd09::9]:80", "remote", tcp),
        ]:
            got = scene.laptop.json("explain", "--json", what)
            equal(got["place"], place, what)
            contains(got["rule"], rule, what)
        # The same code decides: the local server's call to that address leaves from the pod.
        main_job.outgoing(scene)
        told = scene.laptop.run("explain", scene.outgoing.split("/")[2])
        contains(told.stdout, "the pod (feature.network.outgoing.tcp)")
        for wrong in ("here and there", "db", "http://db/", "db:port"):
            refused = scene.laptop.run("explain", wrong)
            equal((refused.returncode, refused.stdout), (64, ""), wrong)
            contains(refused.stderr, "HOST:PORT")
        main_job.ends_cleanly(scene, session)
