#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The rules of the tree that no compiler checks. CONTRIBUTING.md says what they are for.

Out: one line a complaint, "path:line: text", and exit status 1 if there was one. Long functions
and files are listed too, but only as a remark.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SPDX = "SPDX-License-Identifier: Apache-2.0"
FUNCTION_LINES_MAX = 120
FILE_LINES_MAX = 700

# A room includes rooms of lower levels only, through the header with the room's name, and rooms of
# its own level as long as that makes no circle.
ROOM_LEVELS = {
    "base": 0,
    "format": 1, "io": 1,
    "plan": 2, "runtime": 2, "cache": 2, "net": 2, "store": 2,
    "cost": 3, "job": 3,
    "server": 4,
    "cli": 5,
}
# Rooms without a single way in: their headers are small and each stands for itself.
OPEN_ROOMS = {"base", "format"}

# Calls with a better way to say the same.
BANNED_CALLS = {
    "alloca": "memory of a size that is not known comes from an arena",
    "gets": "use getline or a reader of src/io",
    "sprintf": "use snprintf or a buffer",
    "vsprintf": "use vsnprintf or a buffer",
    "strcat": "use a buffer",
    "strcpy": "use memcpy with a length, or a buffer",
    "stpcpy": "use memcpy with a length, or a buffer",
    "strncpy": "use memcpy with a length",
    "strtok": "use strtok_r or a slice",
}

# What touches files belongs in src/io, where tests can make it fail.
FILE_CALLS = (
    "creat fdatasync fopen freopen fsync ftruncate link mkdir mkdtemp mkstemp open openat "
    "pread preadv pwrite pwritev read remove rename renameat rmdir symlink truncate unlink unlinkat "
    "write writev"
).split()
# Files outside src/io that may, and which calls.
FILE_CALLS_ALLOWED = {
    "src/base/log.c": {"write"},  # the log itself
    "src/runtime/exec_exchange.c": {"read", "write"},  # pipes
    "src/runtime/exec_log.c": {"read"},
    "src/runtime/exec_process.c": {"open", "read", "write"},  # pipes, /dev/null
    "src/runtime/host.c": {"open", "write"},  # /proc/self/oom_score_adj
    "src/runtime/llama.c": {"fopen"},  # why a model cannot be read
    "src/runtime/onnx_file.c": {"open", "pread"},  # a look at a model's head
    "src/runtime/process.c": {"open", "read"},  # /proc/<pid>/status of a host
    "src/store/places.c": {"rmdir"},  # a job's folder
    "src/store/quota.c": {"pwrite", "write"},  # what SQLite calls
    "src/runtime/shared_region.c": {"ftruncate"},  # memory without a name
}


def blank(match):
    return re.sub(r"[^\n]", " ", match.group())


def code_of(text):
    """The text with comments and the insides of strings blanked, lines and columns kept."""
    pattern = r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    return re.sub(pattern, blank, text, flags=re.DOTALL)


def line_of(text, position):
    return text.count("\n", 0, position) + 1


class Lint:
    def __init__(self):
        self.complaints = []
        self.remarks = []
        self.arrows = {}

    def complain(self, path, line, text):
        self.complaints.append(f"{path}:{line}: {text}")

    def head(self, path, lines):
        if not lines or SPDX not in lines[0]:
            self.complain(path, 1, f"the first line is not /* {SPDX} */")
        if len(lines) < 2 or not lines[1].startswith(f"/* {Path(path).name} - "):
            self.complain(path, 2, f'the second line does not say what it is for: "/* {Path(path).name} - ..."')

    def calls(self, path, text, code):
        for match in re.finditer(r"(?<![\w.>])(\w+)\s*\(", code):
            name, line = match.group(1), line_of(code, match.start())
            if name in BANNED_CALLS:
                self.complain(path, line, f"{name}(): {BANNED_CALLS[name]}")
            if (
                name in FILE_CALLS
                and path.startswith("src/")
                and not path.startswith("src/io/")
                and name not in FILE_CALLS_ALLOWED.get(path, ())
            ):
                self.complain(path, line, f"{name}(): files are opened and written by src/io only")

    def includes(self, path, text):
        parts = Path(path).parts
        if parts[0] != "src" or len(parts) < 3:
            return
        room = parts[1]
        if room not in ROOM_LEVELS:
            self.complain(path, 1, f"no room is called {room}: tools/lint.py has the list")
            return
        for match in re.finditer(r'^\s*#\s*include\s+"(\w+)/([\w./]+)"', text, flags=re.MULTILINE):
            other, header, line = match.group(1), match.group(2), line_of(text, match.start())
            if other == room or other not in ROOM_LEVELS:
                continue
            if ROOM_LEVELS[other] > ROOM_LEVELS[room]:
                self.complain(path, line, f"{room}/ may not include {other}/, which stands above it")
            elif ROOM_LEVELS[other] == ROOM_LEVELS[room]:
                self.arrows.setdefault(room, {})[other] = f"{path}:{line}"
            if other not in OPEN_ROOMS and header != f"{other}.h":
                self.complain(path, line, f'the way into {other}/ is "{other}/{other}.h"')

    def circles(self):
        for room, others in self.arrows.items():
            for other, where in others.items():
                if room < other and room in self.arrows.get(other, {}):
                    self.complaints.append(f"{where}: {room}/ and {other}/ include each other")

    def lengths(self, path, lines):
        if len(lines) > FILE_LINES_MAX:
            self.remarks.append(f"{path}: {len(lines)} lines")
        begin = None
        for number, line in enumerate(lines, 1):
            if line == "{":
                begin = number
            elif line.startswith("}") and begin is not None:
                if number - begin > FUNCTION_LINES_MAX:
                    self.remarks.append(f"{path}:{begin}: a function of {number - begin} lines")
                begin = None

    def c_file(self, path):
        text = (ROOT / path).read_text()
        code = code_of(text)
        lines = text.splitlines()
        self.head(path, lines)
        self.calls(path, text, code)
        self.includes(path, text)
        self.lengths(path, lines)

    def lists(self, files):
        """Every source is in a list that meson reads."""
        sources = (ROOT / "src/meson.build").read_text()
        tests = (ROOT / "tests/meson.build").read_text()
        for path in files:
            parts = Path(path).parts
            if not path.endswith(".c"):
                continue
            if parts[0] == "src" and f"'{path[len('src/'):]}'" not in sources:
                self.complain(path, 1, "not in the lists of src/meson.build")
            if parts[0] == "tests" and parts[1] in ("unit", "fault", "fuzz"):
                if f"'{Path(path).stem}'" not in tests:
                    self.complain(path, 1, "not in the lists of tests/meson.build")

    def script(self, path):
        text = (ROOT / path).read_text(errors="replace")
        if path.endswith(".py"):
            try:
                ast.parse(text)
            except SyntaxError as error:
                self.complain(path, error.lineno or 1, error.msg)
            return
        first = text.split("\n", 1)[0]
        shell = re.fullmatch(r"#!\s*(?:/usr)?/bin/(?:env )?(sh|bash)\b.*", first)
        if shell:
            result = subprocess.run([shell.group(1), "-n", ROOT / path], capture_output=True, text=True)
            if result.returncode != 0:
                self.complain(path, 1, result.stderr.strip())


def tracked_files():
    """What git has or would add, but what is ignored; the tree itself where there is no git."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode == 0:
        names = result.stdout.split("\0")
    else:
        names = [str(p.relative_to(ROOT)) for p in ROOT.rglob("*")]
        names = [n for n in names if not re.match(r"(\.git|\.deps|build[^/]*)/", n)]
    return sorted({n for n in names if n and (ROOT / n).is_file() and not (ROOT / n).is_symlink()})


def main():
    lint = Lint()
    files = tracked_files()
    c_files = [f for f in files if f.endswith((".c", ".h"))]
    for path in c_files:
        lint.c_file(path)
    lint.circles()
    lint.lists(c_files)
    scripts = [f for f in files if f.endswith((".py", ".sh")) or Path(f).suffix == ""]
    for path in scripts:
        lint.script(path)
    for remark in lint.remarks:
        print(f"remark: {remark}")
    for complaint in lint.complaints:
        print(complaint)
    print(f"lint: {len(c_files)} C files, {len(lint.complaints)} complaints")
    return 1 if lint.complaints else 0


if __name__ == "__main__":
    sys.exit(main())
