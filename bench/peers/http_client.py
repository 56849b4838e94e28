# SPDX-License-Identifier: Apache-2.0
"""Many HTTP requests at a time over connections that stay open, with as little of Python between as
will do: what a server is fed with must not be the slow part.
"""
import selectors
import socket
import time
import urllib.error
import urllib.request

HEADER_END = b"\r\n\r\n"


def wait_until_up(url, process, seconds=120):
    """Until the address answers with 200."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"the server ended with status {process.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise SystemExit(f"no answer from {url} in {seconds} s")


def free_port():
    """One that nobody listens at, so that no server of another run answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def request(path, body, headers=()):
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + HEADER_END + body


class Connection:
    def __init__(self, address):
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.key, self.received = None, b""

    def send(self, key, data):
        self.key, self.received = key, b""
        self.socket.sendall(data)

    def receive(self):
        """(head, body) when the answer is whole, else None."""
        data = self.socket.recv(1 << 20)
        if not data:
            raise SystemExit("the server closed a connection: " + self.received.decode())
        self.received += data
        end = self.received.find(HEADER_END)
        if end < 0:
            return None
        head = self.received[:end].lower()
        begin = head.find(b"content-length:")
        if begin < 0:
            raise SystemExit("an answer without Content-Length: " + head.decode())
        size = int(head[begin + 15:].split(b"\r\n", 1)[0])
        body = self.received[end + 4:]
        return (head, body) if len(body) >= size else None


def run(address, requests, n_connections, on_answer):
    """requests yields (key, bytes); on_answer(key, head, body) for each, in no order."""
    requests = iter(requests)
    with selectors.DefaultSelector() as selector:
        busy = 0
        for _ in range(n_connections):
            one = next(requests, None)
            if one is None:
                break
            connection = Connection(address)
            selector.register(connection.socket, selectors.EVENT_READ, connection)
            connection.send(*one)
            busy += 1
        while busy:
            for event, _ in selector.select():
                busy -= not answered(event.data, requests, on_answer)


def answered(connection, requests, on_answer):
    """False if the connection has nothing to do any more."""
    answer = connection.receive()
    if answer is None:
        return True
    head, body = answer
    if not head.startswith(b"http/1.1 200"):
        raise SystemExit(f"the server answers: {head.decode()}\n{body[:500].decode()}")
    on_answer(connection.key, head, body)
    one = next(requests, None)
    if one is None:
        connection.socket.close()  # which takes it out of the selector
        return False
    connection.send(*one)
    return True
