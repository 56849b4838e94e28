# SPDX-License-Identifier: Apache-2.0
"""A server that answers as it is told, in a thread of the test: loopback, a free port, HTTP/1.1.

`answer(request)` gives (status, body) or (status, body, headers) for each request; what came is kept in
`requests`. It runs in one thread a connection, as servers of models do."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


HEALTH_PATHS = ("/v1/models", "/ping")


class Request:
    def __init__(self, path, headers, body):
        self.path, self.headers, self.body = path, headers, body
        self.time = time.monotonic()

    @property
    def json(self):
        return json.loads(self.body)


def chat_answer(request):
    """What a chat server says: the last message in capitals."""
    text = request.json["messages"][-1]["content"].upper()
    return 200, {"object": "chat.completion",
                 "choices": [{"index": 0, "message": {"role": "assistant", "content": text},
                              "finish_reason": "stop"}],
                 "usage": {"prompt_tokens": 7, "completion_tokens": 3,
                           "prompt_tokens_details": {"cached_tokens": 2}}}


class Upstream:
    """with Upstream(answer) as server: ... server.url"""

    def __init__(self, answer=chat_answer, port=0):
        self.answer, self.requests, self.under_way, self.most_under_way = answer, [], 0, 0
        self.checks, self.health = 0, 200  # questions whether it is up, and what it says to them
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # head and body go out as they are written

            def log_message(self, *_):
                pass

            def handle_one(self):
                size = int(self.headers.get("Content-Length") or 0)
                request = Request(self.path, self.headers, self.rfile.read(size))
                with outer.lock:
                    outer.requests.append(request)
                    outer.under_way += 1
                    outer.most_under_way = max(outer.most_under_way, outer.under_way)
                try:
                    status, body, *headers = outer.answer(request)
                finally:
                    with outer.lock:
                        outer.under_way -= 1
                if not isinstance(body, bytes):
                    body = json.dumps(body).encode()
                self.send_response(status)
                for name, value in (headers[0] if headers else {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                if self.path not in HEALTH_PATHS and not self.path.endswith("/health/ready"):
                    self.handle_one()
                    return
                with outer.lock:
                    outer.checks += 1
                self.send_response(outer.health)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_POST = do_DELETE = handle_one

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, *_):
                pass  # a client that was killed

        self.server = Server(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
