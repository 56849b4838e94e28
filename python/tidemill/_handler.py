# SPDX-License-Identifier: Apache-2.0
"""The handler's end of the pipes; docs/EXEC.md has the protocol."""

import json
import os
import struct
import sys
import traceback
from typing import Any, BinaryIO, Callable, Dict, List, Optional, Sequence, Union, overload

Function = Callable[..., Sequence[Any]]

_LENGTH = struct.Struct("<I")


class Error:
    """What a model returns in place of a result: this record failed, and why."""

    __slots__ = ("message",)

    def __init__(self, message: object) -> None:
        self.message = str(message) or "the handler failed it"

    def __repr__(self) -> str:
        return f"Error({self.message!r})"


class Model:
    """A function over a list of records, as `@tidemill.model` makes it. Calling it calls the function."""

    def __init__(self, function: Function, batch: int, setup: Optional[Callable[[], Any]]) -> None:
        self.function, self.batch, self.setup = function, batch, setup
        self.name = function.__name__
        self.__doc__ = function.__doc__

    def __call__(self, records: List[Any], *more: Any) -> Sequence[Any]:
        return self.function(records, *more)

    def serve(self) -> None:
        """Answers tidemill until it has no more records. Returns at once where tidemill did not start
        this program."""
        ends = os.environ.get("TIDEMILL_EXEC_IN"), os.environ.get("TIDEMILL_EXEC_OUT")
        if ends[0] is None or ends[1] is None:
            print(f"{self.name} is a model of tidemill. Run it with\n"
                  f"  tidemill run --model exec:\"python3 {sys.argv[0]}\" --input FILE --output FILE",
                  file=sys.stderr)
            return
        with os.fdopen(int(ends[0]), "rb", 1 << 20) as source, \
                os.fdopen(int(ends[1]), "wb", 0) as sink:
            os.environ.pop("TIDEMILL_EXEC_IN"), os.environ.pop("TIDEMILL_EXEC_OUT")
            _serve(self, source, sink)


def _plain(value: Any) -> Any:
    """What json does not know: arrays and scalars of numpy, torch and their like say it themselves."""
    tolist = getattr(value, "tolist", None)
    if tolist is None:
        raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
    return tolist()


def _encode(value: Any) -> bytes:
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False,
                      default=_plain)
    return text.encode()


def _send(sink: BinaryIO, message: Dict[str, Any]) -> None:
    payload = _encode(message)
    data = memoryview(_LENGTH.pack(len(payload)) + payload)
    while len(data) > 0:
        data = data[sink.write(data):]


def _receive(source: BinaryIO) -> Optional[List[Any]]:
    head = source.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (size,) = _LENGTH.unpack(head)
    payload = source.read(size)
    if len(payload) < size:
        return None
    records: List[Any] = json.loads(payload)
    return records


def _answer(given: Model, records: List[Any], more: List[Any]) -> Dict[str, Any]:
    returned = given.function(records, *more)
    if isinstance(returned, (str, bytes, dict)):
        raise TypeError(f"{given.name} gave a {type(returned).__name__}, not a list of results")
    results = list(returned)
    if len(results) != len(records):
        raise ValueError(f"{given.name} gave {len(results)} results for {len(records)} records")
    errors = {}
    for i, result in enumerate(results):
        if isinstance(result, (Error, Exception)):
            errors[str(i)] = result.message if isinstance(result, Error) else _describe(result)
            results[i] = None
    return {"results": results, "errors": errors} if errors else {"results": results}


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:400]


def _reply(given: Model, records: List[Any], more: List[Any], sink: BinaryIO) -> None:
    try:
        message = _answer(given, records, more)
    except Exception as error:
        if len(records) == 1:  # tidemill looks for the culprit: its trace is what helps
            traceback.print_exc()
        _send(sink, {"error": _describe(error).encode("utf-8", "replace").decode()})
        return
    try:
        _send(sink, message)
    except (TypeError, ValueError, RecursionError):  # nothing was written: json.dumps raised
        _send(sink, _without_culprits(message))


def _without_culprits(message: Dict[str, Any]) -> Dict[str, Any]:
    """The same, where results that are not JSON are errors of their records."""
    results, errors = message["results"], message.setdefault("errors", {})
    for i, result in enumerate(results):
        try:
            _encode(result)
        except (TypeError, ValueError, RecursionError) as error:
            results[i], errors[str(i)] = None, f"a result is not JSON: {error}"[:400]
    for i, text in errors.items():  # a lone surrogate in an error's own text
        errors[i] = text.encode("utf-8", "replace").decode()
    return message


def _show_lines_at_once() -> None:
    """Printed lines go to the log when they are printed: the process ends by being killed."""
    for stream in sys.stdout, sys.stderr:
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(line_buffering=True)


def _serve(given: Model, source: BinaryIO, sink: BinaryIO) -> None:
    _show_lines_at_once()
    more = [given.setup()] if given.setup is not None else []
    _send(sink, {"tidemill": 1, "name": given.name, "batch": given.batch})
    while True:
        records = _receive(source)
        if records is None:
            return
        _reply(given, records, more, sink)


@overload
def model(function: Function) -> Model: ...


@overload
def model(*, batch: int = 0, setup: Optional[Callable[[], Any]] = None
          ) -> Callable[[Function], Model]: ...


def model(function: Optional[Function] = None, *, batch: int = 0,
          setup: Optional[Callable[[], Any]] = None) -> Union[Model, Callable[[Function], Model]]:
    """Makes a function over a list of records a model.

    function  takes a list of records (what JSON says) and gives as many results, in their order:
              what JSON can say, or tidemill.Error, or an exception (not raised) for a record that failed
    batch     records a call at most; 0: as many as tidemill finds best
    setup     called once, before the first record; what it returns is the function's second argument

    The file that holds it ends with

        if __name__ == "__main__":
            predict.serve()
    """
    def make(function: Function) -> Model:
        return Model(function, batch, setup)

    return make(function) if function is not None else make
