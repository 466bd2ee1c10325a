"""A tiny DNS server on given sockets: answers the names it was told, and says that others do not exist."""

import socket
import struct
import threading

A, AAAA, TXT, PTR, IN = 1, 28, 16, 12, 1
# What a datagram may hold, whatever larger size a client offers.
LARGEST = 512


def name_at(packet, at):
    labels = []
    while packet[at]:
        labels.append(packet[at + 1:at + 1 + packet[at]].decode("ascii", "replace"))
        at += 1 + packet[at]
    return ".".join(labels).lower(), at + 1


def answer_to(packet, names):
    """The answer to one query: `names` maps a name to a list of addresses (A, AAAA), `text:` (TXT) and `name:` values (PTR)."""
    name, end = name_at(packet, 12)
    kind = struct.unpack_from("!H", packet, end)[0]
    records = []
    for value in names.get(name, []):
        if value.startswith("text:"):
            text = value[5:].encode()
            record = (TXT, bytes([len(text)]) + text)
        elif value.startswith("name:"):
            labels = value[5:].encode().split(b".")
            record = (PTR, b"".join(bytes([len(label)]) + label for label in labels) + b"\0")
        elif ":" in value:
            record = (AAAA, socket.inet_pton(socket.AF_INET6, value))
        else:
            record = (A, socket.inet_aton(value))
        if record[0] == kind:
            records.append(record)
    code = 0 if name in names else 3
    head = packet[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, len(records), 0, 0)
    body = b"".join(struct.pack("!HHHIH", 0xC00C, what, IN, 5, len(data)) + data for what, data in records)
    return name, head + packet[12:end + 4] + body


class DnsServer:
    """Serves until closed; `asked` lists every name that was asked for."""

    def __init__(self, udp: socket.socket, tcp: socket.socket, names: dict[str, list[str]]):
        self.names, self.asked, self.udp, self.tcp = names, [], udp, tcp
        for serve in (self.serve_udp, self.serve_tcp):
            threading.Thread(target=serve, daemon=True).start()

    def answer(self, packet):
        name, answer = answer_to(packet, self.names)
        self.asked.append(name)
        return answer

    def serve_udp(self):
        while True:
            try:
                packet, peer = self.udp.recvfrom(4096)
                if not packet:
                    return
                answer = self.answer(packet)
                if len(answer) > LARGEST:  # the question alone, and the word that it is cut: ask by TCP
                    answer = answer[:2] + struct.pack("!HHHHH", 0x8380, 1, 0, 0, 0) + answer[12:name_at(packet, 12)[1] + 4]
                self.udp.sendto(answer, peer)
            except (OSError, IndexError, struct.error):
                if self.udp.fileno() < 0:
                    return

    def serve_tcp(self):
        while True:
            try:
                connection, _ = self.tcp.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                try:
                    with connection.makefile("rb") as stream:
                        while head := stream.read(2):
                            answer = self.answer(stream.read(struct.unpack("!H", head)[0]))
                            connection.sendall(struct.pack("!H", len(answer)) + answer)
                except (OSError, IndexError, struct.error):
                    continue

    def close(self):
        for one in (self.udp, self.tcp):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # an unconnected socket: closing it is enough
            one.close()
