"""Cases 59-65, processes, in each program: one line a case, program and mode."""

from cells import Stage, check
from harness.testing import limit


@limit(120)
def test_processes_in_c_glibc():
    check("processes", "c-glibc")


@limit(120)
def test_processes_in_c_glibc_static():
    check("processes", "c-glibc-static")


@limit(120)
def test_processes_in_c_musl():
    check("processes", "c-musl")


@limit(120)
def test_processes_in_python():
    check("processes", "python")


@limit(120)
def test_processes_in_node():
    check("processes", "node")


@limit(120)
def test_processes_in_bash():
    check("processes", "bash")


def test_processes_leave_nothing_behind():
    Stage.close()
