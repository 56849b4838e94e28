# SPDX-License-Identifier: Apache-2.0
"""schemathesis against the server's own OpenAPI document: whatever is sent, no route fails inside. What is
answered 501 is a method that HTTP has and no route takes (TRACE)."""

import json
import subprocess
import sys

import pytest
from conftest import ROOT
from server import Server

pytest.importorskip("schemathesis")

CONFIG = f"""
models:
  echo:
    model: echo:json=1
  digits:
    model: {ROOT}/examples/digits/digits.onnx
queues:
  recs:
    model: echo
    window: {{every: 1s}}
    on_miss: enqueue
"""


def test_no_request_makes_the_server_fail(tmp_path):
    report = tmp_path / "cassette.json"
    with Server(tmp_path, CONFIG) as server:
        result = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json",
             "--checks", "not_a_server_error", "--max-examples", "6", "--seed", "1", "--phases",
             "coverage,fuzzing", "--report", "har", "--report-har-path", str(report)],
            capture_output=True, text=True, timeout=240, cwd=tmp_path)
        entries = json.loads(report.read_text())["log"]["entries"]
        failed = {(entry["request"]["method"], entry["request"]["url"], entry["response"]["status"])
                  for entry in entries if entry["response"]["status"] >= 500
                  and not (entry["response"]["status"] == 501 and entry["request"]["method"] == "TRACE")}
        assert len(entries) > 300, result.stdout
        assert not failed, (failed, server.text[-2000:])
        assert server.get("/readyz").status == 200
