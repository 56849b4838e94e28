# SPDX-License-Identifier: Apache-2.0
"""Models that `tidemill serve` answers at once: Triton's official HTTP client, unmodified; TF Serving's,
TorchServe's and OpenAI's protocols as they are written down; and our own `tidemill run` as the client of
our own server, whose answers have to be those of the model file itself."""

import base64
import json
import sys
import threading
import time

import numpy as np
import pytest
from conftest import ROOT, read_jsonl, run, write_jsonl
from server import Server
from upstream import Upstream, chat_answer

triton = pytest.importorskip("tritonclient.http")
from tritonclient.utils import InferenceServerException  # noqa: E402

MODELS = {
    "echo": "echo:width=2",
    "any": "echo",
    "ints": "echo:type=int64",
    "slow": "echo:width=2,latency_us=3000",
    "crash": "echo:width=2,latency_us=2000,crash_on=666",
    "hang": "echo:width=2,hang_on=666",
    "busy": "echo:width=2,latency_us=400000",
    "broken": "echo:load_fail=1",
    "chat": "echo:json=1",
    "refuses": "echo:width=2,error_on=666",
    "nan": "echo:width=2,nan_on=5",
    "fixed": "echo:width=2,fixed=4",
}
MORE = {"hang": ["timeout: 300ms"], "busy": ["sync: {queue: 2, max_batch: 1}"]}
ONNX = ["two_in_two_out", "string_concat", "fixed_batch", "no_batch_dynamic", "scalar_per_row", "string_lookup",
        "identity_float16", "identity_bool", "identity_uint8", "identity_int64", "identity_double",
        "identity_float"]


def config(models):
    lines = ["models:"]
    for name, model in MODELS.items():
        lines += [f"  {name}:", f"    model: {json.dumps(model)}"]
        lines += [f"    {option}" for option in MORE.get(name, [])]
    for name in ONNX:
        path = models / f"{name}.onnx"
        if path.exists():
            lines += [f"  {name}:", f"    model: {json.dumps(str(path))}"]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory, models):
    with Server(tmp_path_factory.mktemp("serve"), config(models)) as started:
        yield started


@pytest.fixture
def client(server):
    client = triton.InferenceServerClient(server.url.removeprefix("http://"), concurrency=16)
    yield client
    client.close()


def tensor(name, array, datatype=None, binary=True):
    datatype = datatype or {"float32": "FP32", "int64": "INT64", "object": "BYTES"}[str(array.dtype)]
    given = triton.InferInput(name, list(array.shape), datatype)
    given.set_data_from_numpy(array, binary_data=binary)
    return given


def error_of(answer):
    return answer.json["error"]


# --- Triton's client ---------------------------------------------------------------------------------------


def test_triton_sees_server_and_models(client):
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("echo") and client.is_model_ready("echo", "1")
    assert not client.is_model_ready("nobody") and not client.is_model_ready("echo", "2")
    about = client.get_server_metadata()
    assert about["name"] == "tidemill" and "binary_tensor_data" in about["extensions"]
    model = client.get_model_metadata("echo")
    assert model == {"name": "echo", "versions": ["1"], "platform": "echo",
                     "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
                     "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}]}
    setup = client.get_model_config("echo")
    assert setup["max_batch_size"] > 0
    assert setup["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [2]}]
    assert "echo" in [model["name"] for model in client.get_model_repository_index()]


@pytest.mark.parametrize("is_binary", [True, False])
@pytest.mark.parametrize("is_asked_binary", [True, False])
def test_triton_infers(client, is_binary, is_asked_binary):
    x = np.array([[1.5, -2], [0.1, 1e20], [3, 4]], dtype=np.float32)
    result = client.infer("echo", [tensor("x", x, binary=is_binary)], request_id="id 7",
                          outputs=[triton.InferRequestedOutput("y", binary_data=is_asked_binary)])
    assert np.array_equal(result.as_numpy("y"), x)
    response = result.get_response()
    assert response["id"] == "id 7" and response["model_name"] == "echo"


def test_triton_gets_all_outputs_as_binary(client):
    x = np.arange(200, dtype=np.float32).reshape(100, 2)
    assert np.array_equal(client.infer("echo", [tensor("x", x)]).as_numpy("y"), x)
    assert np.array_equal(client.infer("fixed", [tensor("x", x[:7])]).as_numpy("y"), x[:7])


@pytest.mark.parametrize("name, datatype, dtype", [
    ("identity_float16", "FP16", np.float16), ("identity_bool", "BOOL", np.bool_),
    ("identity_uint8", "UINT8", np.uint8), ("identity_int64", "INT64", np.int64),
    ("identity_double", "FP64", np.float64)])
def test_triton_types(server, client, name, datatype, dtype):
    if server.get(f"/v2/models/{name}").status == 404:
        pytest.skip("there is no such model")
    about = client.get_model_metadata(name)
    shape = [2] + [3 if dim < 0 else dim for dim in about["inputs"][0]["shape"][1:]]
    x = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    given = triton.InferInput(about["inputs"][0]["name"], shape, datatype)
    for is_binary in [True, False] if datatype != "FP16" else [True]:
        given.set_data_from_numpy(x, binary_data=is_binary)
        result = client.infer(name, [given])
        assert np.array_equal(result.as_numpy(about["outputs"][0]["name"]), x)


@pytest.mark.parametrize("is_binary", [True, False])
def test_triton_strings(client, is_binary):
    about = client.get_model_metadata("string_concat")
    texts = np.array(["a", "", "\u00e9\u4e16"], dtype=np.object_)
    shape = [3] + [1] * (len(about["inputs"][0]["shape"]) - 1)
    inputs = [tensor(spec["name"], texts.reshape(shape), binary=is_binary) for spec in about["inputs"]]
    result = client.infer("string_concat", inputs, outputs=[triton.InferRequestedOutput(
        about["outputs"][0]["name"], binary_data=is_binary)])
    found = result.as_numpy(about["outputs"][0]["name"]).reshape(3)
    found = [text.decode() if isinstance(text, bytes) else text for text in found]
    assert all(str(text) in joined for text, joined in zip(texts, found)), found


def counter(server, name, model):
    lines = server.get("/metrics").body.decode().splitlines()
    return [float(line.split()[-1]) for line in lines
            if line.startswith(name) and f'model="{model}"' in line][0]


def test_triton_asks_many_at_once(client):
    asked = [client.async_infer("slow", [tensor("x", np.full((1, 2), i, np.float32))])
             for i in range(64)]
    for i, request in enumerate(asked):
        assert request.get_result().as_numpy("y")[0, 0] == i


def test_callers_at_once_share_microbatches(server):
    wrong = []

    def ask(caller):
        for i in range(8):
            row = [caller, i]
            answer = server.post("/v1/models/slow:predict", {"instances": [row]})
            if answer.json != {"predictions": [row]}:
                wrong.append((row, answer.body))

    before = counter(server, "tidemill_serving_batches_total", "slow")
    threads = [threading.Thread(target=ask, args=(caller,)) for caller in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert counter(server, "tidemill_serving_batches_total", "slow") - before < 16 * 8 / 2


def test_triton_errors(server, client):
    x = np.ones((1, 2), np.float32)
    for model, given, part in [
            ("nobody", tensor("x", x), "no model 'nobody'"),
            ("echo", tensor("z", x), "unexpected input 'z'"),
            ("echo", tensor("x", np.ones((1, 3), np.float32)), "expected shape [batch, 2]"),
            ("echo", tensor("x", np.ones((1, 2), np.int64)), "expected float32, found int64"),
            ("broken", tensor("x", x), "echo was told to fail to load"),
            ("refuses", tensor("x", np.full((1, 2), 666, np.float32)), "refuse 666")]:
        with pytest.raises(InferenceServerException) as caught:
            client.infer(model, [given])
        assert part in caught.value.message(), caught.value
    assert not client.is_model_ready("broken")


def test_a_crash_costs_the_request_that_did_it(client):
    asked = [client.async_infer("crash", [tensor("x", np.full((1, 2), 666 if i == 5 else i, np.float32))])
             for i in range(12)]
    for i, request in enumerate(asked):
        if i == 5:
            with pytest.raises(InferenceServerException) as caught:
                request.get_result()
            assert caught.value.status() == "500" and "SIGSEGV" in caught.value.message()
        else:
            assert request.get_result().as_numpy("y")[0, 0] == i


def test_a_hang_ends_at_the_models_time_limit(server):
    answer = server.post("/v1/models/hang:predict", {"instances": [[666, 1]]})
    assert answer.status == 504, answer.body
    assert server.post("/v1/models/hang:predict", {"instances": [[1, 1]]}).status == 200


def test_a_full_queue_is_answered_at_once(server):
    server.post("/v1/models/busy:predict", {"instances": [[1, 1]]})  # loaded
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(
        server.post("/v1/models/busy:predict", {"instances": [[1, 1]]}))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = [answer for answer in answers if answer.status == 503]
    assert refused and len(refused) < 8
    assert all("Retry-After" in answer.headers and "busy" in error_of(answer) for answer in refused)


# --- KServe by hand -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("body, status, part", [
    (b"{", 400, "not JSON"), (b"", 400, "empty"), (b"[]", 400, "a list, not an object"),
    (b'{"inputs":[]}', 400, "no list of 'inputs'"),
    (b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1]}]}', 400, "data of shape [1]"),
    (b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,"a"]}]}', 400, "a string"),
    (b'{"inputs":[{"name":"x","shape":[0,2],"datatype":"FP32","data":[]}]}', 400, "0 rows"),
])
def test_kserve_says_what_is_wrong(server, body, status, part):
    answer = server.post("/v2/models/echo/infer", body)
    assert answer.status == status and part in error_of(answer), answer.body


def test_kserve_json_cannot_carry_nan(server, client):
    body = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [5, 1]}]}
    answer = server.post("/v2/models/nan/infer", body)
    assert answer.status == 500 and "NaN" in error_of(answer)
    found = client.infer("nan", [tensor("x", np.array([[5, 1]], np.float32))]).as_numpy("y")
    assert np.isnan(found[0, 0]) and found[0, 1] == 1


def test_kserve_gives_json_to_models_that_take_it(server):
    texts = [json.dumps({"a": [1, 2.5]}), '"b"']
    body = {"inputs": [{"name": "record", "shape": [2], "datatype": "BYTES", "data": texts}]}
    answer = server.post("/v2/models/chat/infer", body)
    assert answer.json["outputs"][0]["data"] == texts


# --- TF Serving ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "/versions/1", "/labels/stable"])
def test_tfserving_predicts(server, path):
    answer = server.post(f"/v1/models/echo{path}:predict", {"instances": [[1, 2.5], {"x": [3, 4]}]})
    assert answer.json == {"predictions": [[1, 2.5], [3, 4]]}
    answer = server.post(f"/v1/models/echo{path}:predict", {"inputs": {"x": [[1, 2.5]]}})
    assert answer.json == {"outputs": [[1, 2.5]]}


def test_tfserving_writes_tokens_that_are_no_json(server):
    answer = server.post("/v1/models/echo:predict", b'{"instances":[[NaN,-Infinity]]}')
    assert answer.body == b'{"predictions":[[NaN,-Infinity]]}'


def test_tfserving_names_several_inputs_and_outputs(server):
    about = server.get("/v1/models/two_in_two_out/metadata").json
    signature = about["metadata"]["signature_def"]["signature_def"]["serving_default"]
    row = {}
    for name, spec in signature["inputs"].items():
        dims = [max(int(dim["size"]), 2) for dim in spec["tensor_shape"]["dim"][1:]]
        row[name] = np.ones(dims).tolist() if spec["dtype"] in ("DT_FLOAT", "DT_DOUBLE") else np.ones(
            dims, int).tolist()
    answer = server.post("/v1/models/two_in_two_out:predict", {"instances": [row, row]})
    assert answer.status == 200, answer.body
    predictions = answer.json["predictions"]
    assert len(predictions) == 2 and set(predictions[0]) == set(signature["outputs"])
    del row[next(iter(row))]
    answer = server.post("/v1/models/two_in_two_out:predict", {"instances": [row]})
    assert answer.status == 400 and "instance 0 has no" in error_of(answer)


def test_tfserving_takes_bytes(server):
    about = server.get("/v2/models/string_concat").json
    value = {"b64": base64.b64encode(b"abc").decode()}
    rank = len(about["inputs"][0]["shape"])
    for _ in range(rank - 1):
        value = [value]
    row = {spec["name"]: value for spec in about["inputs"]}
    answer = server.post("/v1/models/string_concat:predict", {"instances": [row]})
    assert answer.status == 200 and b"abc" in answer.body, answer.body


def test_tfserving_classifies_and_regresses(server):
    answer = server.post("/v1/models/echo:classify", {"examples": [{"x": [0.25, 0.75]}]})
    assert answer.json == {"results": [[["0", 0.25], ["1", 0.75]]]}
    answer = server.post("/v1/models/any:regress", {"examples": [{"x": [1.5]}, {"x": [2]}]})
    assert answer.json == {"results": [1.5, 2]}


def test_tfserving_tells_states(server):
    assert server.get("/v1/models/echo").json["model_version_status"][0]["state"] == "AVAILABLE"
    assert server.get("/v1/models/echo/versions/1").json == {"model_version_status": [
        {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}]}
    assert server.get("/v1/models/echo/versions/2").status == 404
    answer = server.post("/v1/models/nobody:predict", {"instances": [1]})
    assert answer.status == 404 and "nobody" in error_of(answer)


def test_a_model_without_batches_is_asked_row_by_row(server):
    assert server.get("/v2/models/no_batch_dynamic").json["inputs"][0]["shape"] == [-1, 4]
    rows = [[[1, 2, 3, 4]], [[0, 0, 0, 0], [2, 4, 6, 8]]]
    answer = server.post("/v1/models/no_batch_dynamic:predict", {"instances": [{"x": row} for row in rows]})
    assert answer.json == {"predictions": [[1, 2, 3, 4], [1, 2, 3, 4]]}, answer.body


# --- TorchServe ---------------------------------------------------------------------------------------------------


def test_torchserve_predicts(server):
    assert server.get("/ping").json == {"status": "Healthy"}
    assert server.post("/predictions/echo", b'{"x":[1,2.5],"id":3}').json == [1, 2.5]
    assert server.post("/predictions/echo/1", b"[1,2.5]").json == [1, 2.5]
    assert "echo" in [model["modelName"] for model in server.get("/models").json["models"]]
    assert "paths" in server.request("OPTIONS", "/").json


def test_torchserve_takes_files(server):
    parts = b"".join(b'--b\r\nContent-Disposition: form-data; name="data"; filename="%d"\r\n\r\n[%d,0]\r\n'
                     % (i, i) for i in range(2))
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    assert server.post("/predictions/echo", parts + b"--b--\r\n", headers=headers).json == [[0, 0], [1, 0]]
    answer = server.post("/predictions/echo", b"--b\r\nnonsense", headers=headers)
    assert answer.status == 400


def test_torchserve_errors_have_its_shape(server):
    answer = server.post("/predictions/nobody", b"[1,2]")
    assert answer.status == 404
    assert answer.json["code"] == 404 and answer.json["type"] == "ResourceNotFoundException"
    assert server.post("/predictions/echo", b"[1").json["type"] == "BadRequestException"


# --- OpenAI ----------------------------------------------------------------------------------------------------------


def test_openai_models_and_requests(server):
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    assert "chat" in [model.id for model in client.models.list()]
    assert client.models.retrieve("chat").id == "chat"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody")
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="nobody", input="a")
    body = {"model": "chat", "messages": [{"role": "user", "content": "\u00e9"}]}
    for path in ["chat/completions", "completions", "embeddings", "moderations", "responses"]:
        assert server.post(f"/v1/{path}", body).json == body
    for body, part in [({"messages": []}, "names no 'model'"),
                       ({"model": "chat", "stream": True}, "not streamed"),
                       ({"model": "echo"}, "takes tensors")]:
        answer = server.post("/v1/chat/completions", body)
        assert answer.status in (400, 501) and part in error_of(answer)["message"], answer.body


def test_openai_requests_go_on_to_a_server(tmp_path):
    def answer(request):
        if request.json["messages"][0]["content"] == "fail":
            return 400, {"error": {"message": "not that"}}
        return chat_answer(request)

    body = {"model": "mill", "messages": [{"role": "user", "content": "hello"}]}
    with Upstream(answer) as upstream, Server(
            tmp_path, f"models:\n  mill:\n    model: {upstream.url}/v1\n    retries: 0\n") as server:
        got = server.post("/v1/chat/completions", body)
        assert got.status == 200 and got.json["choices"][0]["message"]["content"] == "HELLO", got.body
        asked = [request for request in upstream.requests if request.path == "/v1/chat/completions"]
        assert asked[0].json == body
        body["messages"][0]["content"] = "fail"
        got = server.post("/v1/chat/completions", body)
        assert got.status in (400, 502) and "not that" in error_of(got)["message"], got.body


HANDLER = """
import os, tidemill

@tidemill.model
def predict(records):
    if any(record == "die" for record in records): os._exit(7)
    return [{"got": record} for record in records]

if __name__ == "__main__":
    predict.serve()
"""


def test_a_program_answers_at_once_in_every_dialect(tmp_path):
    (tmp_path / "handler.py").write_text(HANDLER)
    config = f"models:\n  mine:\n    model: 'exec:{sys.executable} {tmp_path}/handler.py'\n"
    path = {"PYTHONPATH": str(ROOT / "python"), "PYTHONDONTWRITEBYTECODE": "1"}
    with Server(tmp_path, config, env=path) as server:
        rows = [{"a": 1}, "b", None]
        answer = server.post("/v1/models/mine:predict", {"instances": rows})
        assert answer.json == {"predictions": [{"got": row} for row in rows]}, answer.body
        assert server.post("/predictions/mine", b'{"a":[1, 2]}').json == {"got": {"a": [1, 2]}}
        body = {"model": "mine", "messages": []}
        assert server.post("/v1/chat/completions", body).json == {"got": body}
        request = {"inputs": [{"name": server.get("/v2/models/mine").json["inputs"][0]["name"],
                               "datatype": "BYTES", "shape": [1], "data": ["[1]"]}]}
        answer = server.post("/v2/models/mine/infer", request)
        assert answer.json["outputs"][0]["data"] == ['{"got":[1]}'], answer.body
        answer = server.post("/predictions/mine", b'"die"')
        assert answer.status == 500 and "exited with status 7" in answer.json["message"], answer.body
        assert server.post("/predictions/mine", b"1").json == {"got": 1}


def test_a_reload_brings_other_models(tmp_path):
    with Server(tmp_path, "models:\n  one:\n    model: echo:width=2\n") as server:
        assert server.post("/predictions/one", b"[1,2]").json == [1, 2]
        server.write_config("models:\n  two:\n    model: echo:width=2\n")
        server.process.send_signal(1)  # SIGHUP
        deadline = time.monotonic() + 20
        while server.post("/predictions/two", b"[1,2]").status != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert server.post("/predictions/one", b"[1,2]").status == 404


# --- ourselves ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v2/models/digits/infer", "/v1/models/digits:predict",
                                  "/predictions/digits"])
def test_our_own_client_gets_what_the_file_answers(tmp_path, digits, path):
    model, data = digits
    write_jsonl(tmp_path / "in.jsonl", [{"id": r["id"], "pixels": r["pixels"]}
                                        for r in read_jsonl(data)[:300]])
    run("run", "-m", model, "-i", "in.jsonl", "-o", "file.jsonl", cwd=tmp_path, check=0)
    with Server(tmp_path, f"models:\n  digits:\n    model: {model}\n") as server:
        more = ["--batch", "16"] if "predictions" not in path else []
        run("run", "-m", server.url + path, "-i", "in.jsonl", "-o", "served.jsonl", *more, cwd=tmp_path,
            check=0)
    for mine, other in zip(read_jsonl(tmp_path / "file.jsonl"), read_jsonl(tmp_path / "served.jsonl"),
                           strict=True):
        served = other["response"]
        outputs = {name: value for name, value in mine.items() if name != "id"}
        if not isinstance(served, dict):
            served = {next(iter(outputs)): served}
        assert mine["id"] == other["id"] and set(served) == set(outputs)
        for name, value in outputs.items():
            assert np.allclose(served[name], value, rtol=1e-5, atol=1e-6)


# --- a model's life ----------------------------------------------------------------------------------------------------


def test_a_server_that_stops_answers_who_waits(tmp_path):
    ends = []

    def ask():
        try:
            ends.append(server.post("/v1/models/m:predict", {"instances": [[1, 2]]}).status)
        except OSError:  # cut off
            ends.append(0)

    with Server(tmp_path, "models:\n  m:\n    model: echo:width=2,latency_us=60000000\n"
                          "stop_timeout: 300ms\n") as server:
        thread = threading.Thread(target=ask)
        thread.start()
        while "is loaded" not in server.text:
            thread.join(0.05)
        server.stop(timeout=30)
        thread.join(30)
    assert ends and ends[0] in (0, 503)


def test_a_model_is_let_go_when_nobody_asks(tmp_path):
    with Server(tmp_path, "models:\n  m:\n    model: echo:width=2\n    keep_warm: 100ms\n") as server:
        for _ in range(2):
            assert server.post("/v1/models/m:predict", {"instances": [[1, 2]]}).status == 200
            before = server.text.count("is let go")
            while server.text.count("is let go") == before:
                threading.Event().wait(0.02)
        assert server.text.count("is loaded") == 2


# --- requests that may wait ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path, body, wanted", [
    ("/v2/models/echo/infer",
     {"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2.5, 3, 4]}]},
     lambda answer: answer["outputs"][0]["shape"] == [2, 2] and answer["outputs"][0]["data"] == [1, 2.5, 3, 4]),
    ("/v1/models/echo:predict", {"instances": [{"x": [1, 2]}, {"x": [3, 4]}]},
     lambda answer: answer == {"predictions": [[1, 2], [3, 4]]}),
    ("/predictions/echo", {"x": [1, 2]}, lambda answer: answer == [1, 2]),
])
def test_a_request_that_may_wait_is_answered_in_its_dialect(server, path, body, wanted):
    answer = server.post(path, body, headers={"Prefer": "respond-async"})
    assert answer.status == 202, answer.body
    assert server.post("/v1/queues/echo/flush").status in (200, 202)
    deadline = time.monotonic() + 30
    while True:
        got = server.get(answer.headers["Location"] + "?wait=5s")
        if got.status == 200 and not (isinstance(got.json, dict) and "status" in got.json):
            break
        assert time.monotonic() < deadline, got.body
    assert wanted(got.json), got.body
