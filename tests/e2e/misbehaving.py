# SPDX-License-Identifier: Apache-2.0
"""A server that misbehaves on order: raw sockets, one thread a connection, loopback, a free port.

`behave(wire)` is called for each request. It answers with wire.answer(...) or does what a server should
not: wire.send(bytes), wire.reset(), wire.hang(), wire.close(). What came is kept in `requests`."""

import json
import re
import socket
import ssl
import struct
import threading

REASONS = {200: "OK", 301: "Moved Permanently", 400: "Bad Request", 401: "Unauthorized"}


class Closed(Exception):
    """The connection is over, on purpose or not."""


class Wire:
    """One request, and the connection it came on."""

    def __init__(self, server, connection, nth):
        self.server, self.connection, self.nth = server, connection, nth  # nth on this connection
        self.method = self.path = ""
        self.headers, self.body = {}, b""

    @property
    def json(self):
        return json.loads(self.body)

    def receive(self):
        """Reads the request; Closed when there is none."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += self.more()
        head, self.body = data.split(b"\r\n\r\n", 1)
        first, *lines = head.decode("latin-1").split("\r\n")
        self.method, self.path, _ = first.split(" ", 2)
        self.headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
        while len(self.body) < int(self.headers.get("content-length", 0)):
            self.body += self.more()

    def more(self):
        data = self.connection.recv(1 << 16)
        if not data:
            raise Closed
        return data

    def send(self, data):
        self.connection.sendall(data if isinstance(data, bytes) else data.encode())

    def head(self, status=200, length=None, **headers):
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}"]
        if length is not None:
            lines.append(f"Content-Length: {length}")
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def answer(self, body, status=200, **headers):
        """A proper answer; `body` is bytes, or goes out as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send(self.head(status, len(data), **headers) + data)

    def close(self):
        raise Closed

    def reset(self):
        """The other side sees ECONNRESET."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise Closed

    def hang(self):
        """Says nothing until the other side has gone."""
        while self.more():
            pass

    def sleep(self, seconds):
        if self.server.is_over.wait(seconds):
            raise Closed


class Misbehaving:
    """with Misbehaving(behave) as server: ... server.url"""

    def __init__(self, behave, port=0, certificate=None):
        self.behave, self.requests, self.n_connections = behave, [], 0
        self.lock, self.is_over = threading.Lock(), threading.Event()
        self.open = set()
        self.context = None
        if certificate is not None:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(certificate)
        self.listener = socket.create_server(("127.0.0.1", port), backlog=256)
        self.port = self.listener.getsockname()[1]
        self.url = f"http{'s' if certificate else ''}://127.0.0.1:{self.port}"

    def accept(self):
        while not self.is_over.is_set():
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with self.lock:
            self.n_connections += 1
            self.open.add(connection)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.context is not None:
                plain, connection = connection, self.context.wrap_socket(connection, True)
                with self.lock:
                    self.open.discard(plain)
                    self.open.add(connection)
            for nth in range(1 << 30):
                wire = Wire(self, connection, nth)
                wire.receive()
                if wire.method == "GET" and wire.path == "/v1/models":  # is it up?
                    wire.answer({"data": []})
                    continue
                with self.lock:
                    self.requests.append(wire)
                self.behave(wire)
        except (Closed, OSError, ValueError):
            pass
        finally:
            with self.lock:
                self.open.discard(connection)
            connection.close()

    def seen(self, pattern):
        """How often a request's body matched."""
        with self.lock:
            return sum(1 for wire in self.requests if re.search(pattern, wire.body.decode()))

    def seen_record(self, n):
        return self.seen(rf'"n": ?{n}\b')

    def __enter__(self):
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        self.listener.shutdown(socket.SHUT_RDWR)  # ends accept(), which else keeps the port
        self.listener.close()
        with self.lock:
            for connection in self.open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass


def free_port():
    """One that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]
