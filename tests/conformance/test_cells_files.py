"""Cases 1-32, files, in each program: one line a case, program and mode."""

from cells import Stage, check
from harness.testing import limit


@limit(120)
def test_files_in_c_glibc():
    check("files", "c-glibc")


@limit(120)
def test_files_in_c_glibc_static():
    check("files", "c-glibc-static")


@limit(120)
def test_files_in_c_musl():
    check("files", "c-musl")


@limit(120)
def test_files_in_go_static():
    check("files", "go-static")


@limit(120)
def test_files_in_go_cgo():
    check("files", "go-cgo")


@limit(120)
def test_files_in_rust_musl():
    check("files", "rust-musl")


@limit(120)
def test_files_in_python():
    check("files", "python")


@limit(120)
def test_files_in_node():
    check("files", "node")


@limit(120)
def test_files_in_java():
    check("files", "java")


@limit(120)
def test_files_in_ruby():
    check("files", "ruby")


@limit(120)
def test_files_in_bash():
    check("files", "bash")


def test_files_leave_nothing_behind():
    Stage.close()
