#!/usr/bin/env python3
"""The sample service in Python: answers what it was asked, with what only its surroundings can know.

GET /say?text=TEXT   the text, an environment value, a mounted file, the address of a name, the host name
GET /call?url=URL    makes an outgoing HTTP request and answers with what came back
GET /healthz         ok

PORT, SAMPLE_GREETING, SAMPLE_FILE and SAMPLE_NAME come from the environment. Standard library only.
"""

import json
import os
import socket
import sys
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from urllib.parse import parse_qs, urlsplit


def read_file(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except OSError as error:
        return f"error: {error.strerror}"


def resolve(name):
    try:
        return socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)[0][4][0]
    except OSError as error:
        return f"error: {error.strerror or error}"


def call(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return {"status": answer.status, "body": answer.read(65536).decode("utf-8", "replace")}
    except OSError as error:
        return {"error": str(error)}


def say(text, client):
    greeting = os.environ.get("SAMPLE_GREETING", "")
    file = read_file(os.environ.get("SAMPLE_FILE", "/etc/sample/banner.txt"))
    address = resolve(os.environ.get("SAMPLE_NAME", "localhost"))
    return {  # a breakpoint here shows the request: text, client, and what the surroundings gave
        "text": text,
        "greeting": greeting,
        "file": file,
        "address": address,
        "hostname": socket.gethostname(),
        "client": client,
        "pid": os.getpid(),
        "program": "python",
    }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path == "/say":
            self.answer(200, say(query.get("text", ""), self.client_address[0]))
        elif url.path == "/call":
            self.answer(200, call(query.get("url", "")))
        elif url.path == "/healthz":
            self.answer(200, {"ok": True})
        else:
            self.answer(404, {"error": "no such path"})

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        print(self.address_string(), format % args, file=sys.stderr, flush=True)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self):
        # Not HTTPServer's own: it asks for the host's domain name, which takes seconds where no resolver answers.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "sample", self.server_address[1]


if __name__ == "__main__":
    port = int(os.environ.get("PORT", "80"))
    with Server(("0.0.0.0", port), Handler) as server:
        print(f"sample service on port {port}", flush=True)
        server.serve_forever()
