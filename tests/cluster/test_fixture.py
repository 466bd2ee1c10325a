"""The test cluster itself, before anything is proved with it."""

import socket

from harness.cluster import Cluster, ClusterError, Sample, kubeconfig
from harness.testing import contains, equal


def test_a_service_answers_inside_and_its_pod_is_out_of_the_laptops_reach():
    with Sample(Cluster(kubeconfig(), "sample"), node="node-2", client_node="node-1", sidecar=True) as sample:
        wanted = {"greeting": sample.greeting, "file": sample.banner, "address": sample.service_address, "hostname": sample.pod_name, "pid": 1}
        for got in (sample.say("inside"), sample.say("inside", host="127.0.0.1", container="sidecar")):
            equal({name: got[name] for name in wanted}, wanted)
        for address in (sample.pod_address, sample.service_address):
            try:
                socket.create_connection((address, 80), timeout=5).close()
            except OSError as error:
                contains(str(error), "No route to host")
            else:
                raise AssertionError(f"the laptop reaches {address}")


def test_users_may_do_what_their_roles_say():
    developer, viewer = (Cluster(kubeconfig(user), "sample") for user in ("developer", "viewer"))
    equal(developer.kubectl("auth", "can-i", "create", "jobs").strip(), "yes")
    equal(developer.kubectl("auth", "can-i", "get", "nodes").strip(), "yes")
    equal(developer.kubectl("auth", "can-i", "create", "jobs", "-n", "default", check=False).strip(), "no")
    try:
        viewer.kubectl("create", "job", "never", "--image=localhost/pause:1")
    except ClusterError as error:
        contains(str(error), "forbidden")
    else:
        raise AssertionError("the viewer created a job")
