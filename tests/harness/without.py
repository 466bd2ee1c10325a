"""Runs a command to which the kernel refuses some calls: without.py [--as UID] RULE... -- COMMAND...

A rule is CALL=ERRNO (`pidfd_getfd=EPERM`), or CALL:ARGUMENT:TEST=ERRNO for a call whose argument is a number
(`ioctl:1:0x40182103=EPERM`), has a bit (`seccomp:1:&0x20=EINVAL`) or is beyond 32 bits (`pread64:3:high=EPERM`). The rule
`listener` takes the one seccomp listener that a tree of processes can have. All of it is a filter that the command
inherits, as one inherits a container's.
"""

import ctypes
import errno
import os
import struct
import sys

PR_SET_NO_NEW_PRIVS, SET_MODE_FILTER, NEW_LISTENER = 38, 1, 8
ALLOW, NOTIFY, ERRNO = 0x7FFF0000, 0x7FC00000, 0x00050000
LOAD, EQUALS, HAS_BITS, ANSWER = 0x20, 0x15, 0x45, 0x06
SECCOMP = {"x86_64": 317, "aarch64": 277}
CALLS = {
    "x86_64": {"ioctl": 16, "pread64": 17, "mount": 165, "unshare": 272, "process_vm_readv": 310, "process_vm_writev": 311},
    "aarch64": {"ioctl": 29, "mount": 40, "pread64": 67, "unshare": 97, "process_vm_readv": 270, "process_vm_writev": 271},
}
EVERYWHERE = {"move_mount": 429, "fsopen": 430, "fsmount": 432, "pidfd_getfd": 438, "mount_setattr": 442}


def numbers() -> dict[str, int]:
    machine = os.uname().machine
    return CALLS[machine] | EVERYWHERE | {"seccomp": SECCOMP[machine]}


def steps(rule: str) -> list[tuple[int, int, int, int]]:
    """The filter's instructions for one rule; they go on behind it where it does not fit."""
    what, _, error = rule.partition("=")
    call, *test = what.split(":")
    answer = (ANSWER, 0, 0, ERRNO | getattr(errno, error))
    test_steps = []
    if test:
        argument, value = int(test[0]), test[1]
        offset = 16 + 8 * argument
        if value == "high":
            test_steps = [(LOAD, 0, 0, offset + 4), (EQUALS, 1, 0, 0)]
        elif value.startswith("&"):
            test_steps = [(LOAD, 0, 0, offset), (HAS_BITS, 0, 1, int(value[1:], 0))]
        else:
            test_steps = [(LOAD, 0, 0, offset), (EQUALS, 0, 1, int(value, 0))]
    block = [*test_steps, answer]
    return [(LOAD, 0, 0, 0), (EQUALS, 0, len(block), numbers()[call]), *block]


def install(code, flags=0) -> int:
    text = b"".join(struct.pack("HBBI", *step) for step in code)
    buffer = ctypes.create_string_buffer(text, len(text))
    program = struct.pack("HxxxxxxP", len(code), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.syscall(SECCOMP[os.uname().machine], SET_MODE_FILTER, flags, program)
    if done < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return done


def main():
    words = sys.argv[1:]
    command = words[words.index("--") + 1:]
    rules = words[:words.index("--")]
    user = None
    if rules[0] == "--as":
        user, rules = int(rules[1]), rules[2:]
    if os.geteuid() != 0:
        ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    code = [step for rule in rules if rule != "listener" for step in steps(rule)]
    if code:
        install([*code, (ANSWER, 0, 0, ALLOW)])
    if "listener" in rules:
        # No call has this number: nobody ever waits for an answer.
        nobody = [(LOAD, 0, 0, 0), (EQUALS, 0, 1, 0x3FFFFFFF), (ANSWER, 0, 0, NOTIFY), (ANSWER, 0, 0, ALLOW)]
        os.set_inheritable(install(nobody, NEW_LISTENER), True)
    if user is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
