"""Cases 50-58, names, in each program: one line a case, program and mode."""

from cells import Stage, check
from harness.testing import limit


@limit(120)
def test_names_in_c_glibc():
    check("names", "c-glibc")


@limit(120)
def test_names_in_c_glibc_static():
    check("names", "c-glibc-static")


@limit(120)
def test_names_in_c_musl():
    check("names", "c-musl")


@limit(120)
def test_names_in_go_static():
    check("names", "go-static")


@limit(120)
def test_names_in_go_cgo():
    check("names", "go-cgo")


@limit(120)
def test_names_in_rust_musl():
    check("names", "rust-musl")


@limit(120)
def test_names_in_python():
    check("names", "python")


@limit(120)
def test_names_in_node():
    check("names", "node")


@limit(120)
def test_names_in_java():
    check("names", "java")


@limit(120)
def test_names_in_ruby():
    check("names", "ruby")


@limit(120)
def test_names_in_bash():
    check("names", "bash")


def test_names_leave_nothing_behind():
    Stage.close()
