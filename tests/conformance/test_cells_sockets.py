"""Cases 33-47, sockets, in each program: one line a case, program and mode."""

from cells import Stage, check
from harness.testing import limit


@limit(120)
def test_sockets_in_c_glibc():
    check("sockets", "c-glibc", calls=("serve", "second"))


@limit(120)
def test_sockets_in_c_glibc_static():
    check("sockets", "c-glibc-static", calls=("serve", "second"))


@limit(120)
def test_sockets_in_c_musl():
    check("sockets", "c-musl", calls=("serve", "second"))


@limit(120)
def test_sockets_in_go_static():
    check("sockets", "go-static", calls=("serve", "second"))


@limit(120)
def test_sockets_in_go_cgo():
    check("sockets", "go-cgo", calls=("serve", "second"))


@limit(120)
def test_sockets_in_rust_musl():
    check("sockets", "rust-musl", calls=("serve", "second"))


@limit(120)
def test_sockets_in_python():
    check("sockets", "python", calls=("serve", "second"))


@limit(120)
def test_sockets_in_node():
    check("sockets", "node", calls=("serve", "second"))


@limit(120)
def test_sockets_in_java():
    check("sockets", "java", calls=("serve", "second"))


@limit(120)
def test_sockets_in_ruby():
    check("sockets", "ruby", calls=("serve", "second"))


@limit(120)
def test_sockets_in_bash():
    check("sockets", "bash", calls=("serve", "second"))


def test_sockets_leave_nothing_behind():
    Stage.close()
