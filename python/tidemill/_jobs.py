# SPDX-License-Identifier: Apache-2.0
"""Jobs from Python: what `tidemill run` does, by calling it."""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Union

Option = Union[None, bool, str, int, float, "os.PathLike[str]",
               Sequence[Union[str, "os.PathLike[str]"]]]
Summary = Dict[str, Any]


class JobError(Exception):
    """A job that did not end with every record answered. `status` is the command's exit status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class RequestError(JobError):
    """The request itself was wrong (exit status 2)."""


class JobFailed(JobError):
    """Nothing could be done: the model does not load, the disk is full, ... (exit status 3)."""


class Interrupted(JobError):
    """Stopped at a checkpoint; the same call goes on (exit status 75)."""


_KINDS = {2: RequestError, 3: JobFailed, 75: Interrupted}


def _binary() -> str:
    found = os.environ.get("TIDEMILL_BINARY") or shutil.which("tidemill")
    if found is None:
        raise RequestError("the tidemill command is not on the path; set TIDEMILL_BINARY to it", 2)
    return found


def _arguments(options: Mapping[str, Option]) -> List[str]:
    arguments: List[str] = []
    for name, value in options.items():
        flag = "--" + name.rstrip("_").replace("_", "-")
        if value is None:
            continue
        if isinstance(value, bool):
            arguments.append(f"{flag}={'true' if value else 'false'}")
        elif isinstance(value, (str, int, float, os.PathLike)):
            arguments.append(f"{flag}={os.fspath(value) if isinstance(value, os.PathLike) else value}")
        else:
            arguments.extend(f"{flag}={os.fspath(item)}" for item in value)
    return arguments


def run(model: str, input: Option, output: Union[str, "os.PathLike[str]"],
        **options: Option) -> Summary:
    """Runs a job and returns its summary (docs/cost.md). Options are those of `tidemill run`, with _ for
    -; a list gives an option several times. Records that failed do not raise: summary["errors"] counts
    them, summary["errors_file"] names their file. Raises JobError's children by exit status."""
    with tempfile.TemporaryDirectory(prefix="tidemill-") as folder:
        summary = Path(folder) / "summary.json"
        command = [_binary(), "run", *_arguments(
            {"model": model, "input": input, "output": output, "quiet": True,
             "summary": options.pop("summary", None) or summary, **options})]
        result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, errors="replace")
        if result.returncode not in (0, 1):
            message = result.stderr.strip() or f"tidemill ended with status {result.returncode}"
            raise _KINDS.get(result.returncode, JobError)(message, result.returncode)
        if not summary.exists():
            return {}
        parsed: Summary = json.loads(summary.read_text(encoding="utf-8"))
        return parsed


class Client:
    """Records in memory through a model. Options are those of `tidemill run` and hold for every call."""

    def __init__(self, model: str, **options: Option) -> None:
        self.model, self.options = model, options
        self.summary: Optional[Summary] = None  # of the last call

    def run(self, records: Iterable[Any]) -> List[Any]:
        """One output a record, in their order: the output line as a dict without its id, or a
        JobError (not raised) that says why there is none."""
        with tempfile.TemporaryDirectory(prefix="tidemill-") as folder:
            source, target = Path(folder) / "in.jsonl", Path(folder) / "out.jsonl"
            n = 0
            with source.open("w", encoding="utf-8") as file:
                for n, record in enumerate(records, 1):
                    file.write(json.dumps(record) + "\n")
            self.summary = run(self.model, source, target, **{"id": "", **self.options})
            answers: List[Any] = [JobError("no answer", 1)] * n
            for line in _lines(target):
                answers[int(line.pop("id")) - 1] = line
            for line in _lines(Path(f"{target}.errors.jsonl")):
                answers[line["index"]] = JobError(f"{line['code']}: {line['message']}", 1)
            return answers


def _lines(path: Path) -> Iterable[Dict[str, Any]]:
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            parsed: Dict[str, Any] = json.loads(line)
            yield parsed
