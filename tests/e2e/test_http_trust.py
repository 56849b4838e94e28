# SPDX-License-Identifier: Apache-2.0
"""Whom a job trusts with what: certificates, headers, and what is said of secrets."""

import shutil
import ssl
import subprocess

import pytest

from conftest import read_jsonl, run, write_jsonl
from upstream import Upstream


def ask(server, folder, *options, **more):
    write_jsonl(folder / "in.jsonl", [
        {"id": i, "body": {"model": "m", "temperature": 0,
                           "messages": [{"role": "user", "content": f"say {i}"}]}}
        for i in range(20)])
    return run("run", "-m", server.url + "/v1/chat/completions", "-i", "in.jsonl", "-o",
               "out.jsonl", *options, cwd=folder, **more)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """(certificate, key) for 127.0.0.1, which nobody trusts."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not there")
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
                    "-keyout", "key.pem", "-out", "certificate.pem"], cwd=folder, check=True,
                   capture_output=True)
    return folder / "certificate.pem", folder / "key.pem"


@pytest.fixture
def server(certificate):
    upstream = Upstream()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    upstream.server.socket = context.wrap_socket(upstream.server.socket, server_side=True)
    upstream.url = upstream.url.replace("http:", "https:")
    with upstream:
        yield upstream


def test_a_strange_certificate_ends_the_job_before_anything_is_sent(server, tmp_path):
    result = ask(server, tmp_path, check=3, env={"TIDEMILL_API_KEY": "sk-secret"})
    assert "certificate" in result.err and "--ca-file" in result.err
    assert server.requests == []


def test_a_certificate_that_is_named_is_trusted(server, certificate, tmp_path):
    ask(server, tmp_path, "--ca-file", certificate[0], check=0)
    assert len(read_jsonl(tmp_path / "out.jsonl")) == 20


def test_certificates_are_not_looked_at_if_told_so(server, tmp_path):
    ask(server, tmp_path, "--insecure", check=0)
    assert len(read_jsonl(tmp_path / "out.jsonl")) == 20


def test_certificates_that_are_missing_are_named(server, tmp_path):
    assert "/no/such.pem" in ask(server, tmp_path, "--ca-file", "/no/such.pem", check=3).err


def test_a_server_without_https_is_told(tmp_path):
    with Upstream() as plain:
        plain.url = plain.url.replace("http:", "https:")
        result = ask(plain, tmp_path, "--patience", "100ms", check=3)
    assert "does it speak https?" in result.err


def test_a_users_headers_replace_ours(tmp_path):
    with Upstream() as plain:
        ask(plain, tmp_path, "--header", "content-type: application/json; charset=utf-8",
            "--header", "Authorization: Basic abc", "--header", "X-Team: 7", check=0,
            env={"TIDEMILL_API_KEY": "sk-secret"})
        headers = plain.requests[0].headers
    assert headers.get_all("Content-Type") == ["application/json; charset=utf-8"]
    assert headers.get_all("Authorization") == ["Basic abc"]
    assert headers.get_all("X-Team") == ["7"]


def test_a_header_that_is_none_is_not_shown(tmp_path):
    with Upstream() as plain:
        result = ask(plain, tmp_path, "--header", "Bearer sk-secret", check=2)
    assert "NAME:VALUE" in result.err and "sk-secret" not in result.err


def test_a_redirects_tokens_are_not_shown(tmp_path):
    def answer(_):
        return 302, {}, {"Location": "https://user:sk-a@else.example:8443/sk-b?token=sk-c#sk-d"}

    with Upstream(answer) as plain:
        result = ask(plain, tmp_path, check=3)
    assert "https://else.example:8443/" in result.err and "sk-" not in result.err


def test_a_key_cut_at_a_messages_end_is_not_shown(tmp_path):
    """Messages are cut to fit; the piece of a key before the cut is a secret too."""
    def answer(request):
        pad = int(request.json["messages"][0]["content"].split()[1]) + 440
        return 400, {"error": {"message": "x" * pad + request.headers["Authorization"]}}

    with Upstream(answer) as plain:
        ask(plain, tmp_path, check=1, env={"TIDEMILL_API_KEY": "sk-" + "secret" * 20})
    assert "secret" not in (tmp_path / "out.jsonl.errors.jsonl").read_text()
