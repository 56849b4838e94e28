# SPDX-License-Identifier: Apache-2.0
"""`tidemill serve` for a test: a data folder and a configuration of the test's own, a free port."""

import json
import os
import re
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request

from conftest import TIDEMILL, heed_signals


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)


class Server:
    """with Server(tmp_path, "models: {...}") as server: server.url, server.get("/healthz").

    It may be killed and started again on the same data; the log of all its lives is in `log`."""

    def __init__(self, folder, config, listen="127.0.0.1:0", env=None):
        self.folder, self.listen, self.env = folder, listen, env or {}
        self.config_path = folder / "tidemill.yaml"
        self.data = folder / "data"
        self.log = []
        self.process = None
        self.write_config(config)

    def write_config(self, config):
        self.config_path.write_text(config)

    def start(self, timeout=60):
        command = [TIDEMILL, "serve", str(self.config_path), f"--data={self.data}",
                   f"--listen={self.listen}"]
        self.addresses = []
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True, errors="replace", env={**os.environ, **self.env}, preexec_fn=heed_signals)
        self.ready = threading.Event()
        self.reader = threading.Thread(target=self.read_log, args=(self.process,), daemon=True)
        self.reader.start()
        deadline = time.monotonic() + timeout
        while not self.ready.wait(0.05):
            if self.process.poll() is not None:
                self.reader.join(5)
                raise AssertionError(f"the server ended with {self.process.returncode}:\n{self.text}")
            assert time.monotonic() < deadline, f"the server is not ready:\n{self.text}"
        return self

    def read_log(self, process):
        for line in process.stderr:
            self.log.append(line)
            found = re.search(r"listening on ([^\s\"]+)", line)
            if found:
                self.addresses.append(found.group(1))
                self.ready.set()

    @property
    def text(self):
        return "".join(self.log)

    @property
    def url(self):
        return f"http://{self.addresses[0]}"

    def kill(self):
        """As the machine would: no checkpoint."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)
        self.reader.join(10)

    def stop(self, check=0, timeout=60):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout)
        self.reader.join(10)
        assert self.process.returncode == check, self.text
        assert "Sanitizer" not in self.text and "runtime error:" not in self.text, self.text

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, *_):
        if self.process is None or self.process.poll() is not None:
            return
        if kind is None:
            self.stop()
        else:
            self.kill()

    # --- asking it ---

    def request(self, method, path, body=None, headers=None, timeout=60):
        """The answer, whatever its status."""
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
            headers = {"Content-Type": "application/json", **(headers or {})}
        request = urllib.request.Request(self.url + path, data=body, method=method,
                                         headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return Answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.headers, error.read())

    def get(self, path, **more):
        return self.request("GET", path, **more)

    def post(self, path, body=None, **more):
        return self.request("POST", path, body=body if body is not None else b"", **more)

    def wait_for(self, path, is_done, timeout=60):
        """Asks until `is_done` of the JSON answer."""
        deadline = time.monotonic() + timeout
        while True:
            answer = self.get(path)
            assert answer.status == 200, answer.body
            if is_done(answer.json):
                return answer.json
            assert time.monotonic() < deadline, f"still {answer.body}\n{self.text}"
            time.sleep(0.05)
