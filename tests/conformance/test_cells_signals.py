"""Cases 70-82, signals, in each program: one line a case, program and mode."""

from cells import Stage, check
from harness.testing import limit


@limit(120)
def test_signals_in_c_glibc():
    check("signals", "c-glibc")


@limit(120)
def test_signals_in_c_glibc_static():
    check("signals", "c-glibc-static")


@limit(120)
def test_signals_in_c_musl():
    check("signals", "c-musl")


@limit(120)
def test_signals_in_go_static():
    check("signals", "go-static")


@limit(120)
def test_signals_in_go_cgo():
    check("signals", "go-cgo")


@limit(120)
def test_signals_in_python():
    check("signals", "python")


def test_signals_leave_nothing_behind():
    Stage.close()
