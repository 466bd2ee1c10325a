"""Cases 50-58 in Python, whose names are the C library's."""

import asyncio
import socket


def looked_up(name, family=0):
    try:
        return sorted({answer[4][0] for answer in socket.getaddrinfo(name, 80, family, socket.SOCK_STREAM)})
    except socket.gaierror as error:
        return {socket.EAI_NONAME: "EAI_NONAME", socket.EAI_AGAIN: "EAI_AGAIN"}.get(error.errno, error.errno)


def resolved(p):
    p.saw("any family", looked_up(p.known))
    p.saw("IPv4", looked_up(p.known, socket.AF_INET))

    async def asynchronously():
        return sorted({answer[4][0] for answer in await asyncio.get_running_loop().getaddrinfo(p.known, 80)})

    p.does("asyncio", lambda: str(asyncio.run(asynchronously())))
    p.does("gethostbyname_ex", lambda: sorted(socket.gethostbyname_ex(p.known)[2]))


def searched(p):
    p.saw("short", looked_up(p.short, socket.AF_INET))
    p.saw("with one dot", looked_up(p.arguments["one-dot"], socket.AF_INET))


def without_address(p):
    p.saw("unknown", looked_up(p.unknown))
    p.saw("only IPv6", looked_up(p.known6))
    p.saw("no IPv4", looked_up(p.known6, socket.AF_INET))
    p.saw("too many for one datagram", looked_up(p.crowd, socket.AF_INET))


def from_hosts(p):
    p.saw("in hosts", looked_up(p.arguments["in-hosts"], socket.AF_INET))
    p.saw("own", (socket.gethostname(), looked_up(socket.gethostname(), socket.AF_INET)))


def reversed_names(p):
    p.does("name", lambda: socket.gethostbyaddr(p.reverse)[0])


CASES = {50: resolved, 54: searched, 55: without_address, 56: from_hosts, 58: reversed_names}
