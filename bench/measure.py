# SPDX-License-Identifier: Apache-2.0
"""Runs commands and tells what they took: wall time, processor time of the process tree, memory.

Time and memory come from separate runs, so that looking at memory does not cost time.
"""
import json
import os
import re
import resource
import subprocess
import tempfile
import time
from pathlib import Path

SAMPLE_S = 0.01
TREE_SAMPLES = 5  # the whole tree is looked at in every so many samples


class CommandFailed(Exception):
    pass


def text_of(command):
    return " ".join(map(str, command))


def check(command, code, error):
    if code != 0:
        error.seek(0)
        raise CommandFailed(f"{text_of(command)}: exit status {code}\n{error.read().decode()}")


class Others:
    """The share of all cores that other processes took. If it is large, do not trust times."""

    def __init__(self):
        os.sync()  # what earlier runs left to be written is not this run's to pay for
        self.began, self.busy_s, self.own_s = time.monotonic(), self.all_busy_s(), self.ours_s()

    @staticmethod
    def all_busy_s():
        with open("/proc/stat", encoding="ascii") as text:
            user, nice, system, _, _, irq, softirq, steal = map(int, text.readline().split()[1:9])
        return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")

    @staticmethod
    def ours_s():
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return children.ru_utime + children.ru_stime + time.process_time()

    def share(self):
        others_s = self.all_busy_s() - self.busy_s - (self.ours_s() - self.own_s)
        return max(others_s, 0) / (time.monotonic() - self.began) / os.cpu_count()


def timed(command, n_rows, environment):
    """One run of a command that does not measure itself."""
    others = Others()
    with tempfile.TemporaryFile() as error:
        began = time.monotonic()
        child = subprocess.Popen([str(c) for c in command], stdout=subprocess.DEVNULL, stderr=error,
                                 env=environment)
        _, status, usage = os.wait4(child.pid, 0)  # with all descendants that were waited for
        seconds = time.monotonic() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        check(command, child.returncode, error)
    return {"seconds": seconds, "rows_per_s": n_rows / seconds,
            "cpu_s_per_million": (usage.ru_utime + usage.ru_stime) / n_rows * 1e6,
            "others": others.share()}


def lines(command, environment=None):
    """One run of a command that measures itself: the lines of JSON that it prints."""
    others = Others()
    with tempfile.TemporaryFile() as error:
        done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=error,
                              env=environment, check=False)
        check(command, done.returncode, error)
    share = others.share()
    return [{**json.loads(line), "others": share} for line in done.stdout.splitlines()]


# --- memory --------------------------------------------------------------------------------------


def kilobytes(path, names):
    """{name: number} of the lines "Name:  123 kB" of a file below /proc; zeros if it is gone."""
    try:
        text = path.read_text()
    except OSError:
        text = ""
    found = dict(re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE))
    return {name: int(found.get(name, 0)) for name in names}


def tree(pid):
    """The process and all its descendants."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


class Peaks:
    """Largest values seen, in kB."""

    def __init__(self):
        self.private = self.largest_rss = self.tree_pss = 0

    def look_at_first(self, pid):
        status = kilobytes(Path(f"/proc/{pid}/status"), ("RssAnon", "RssShmem"))
        self.private = max(self.private, sum(status.values()))

    def look_at_tree(self, pid):
        pss = 0
        for one in tree(pid):
            status = kilobytes(Path(f"/proc/{one}/status"), ("VmHWM",))
            self.largest_rss = max(self.largest_rss, status["VmHWM"])
            pss += kilobytes(Path(f"/proc/{one}/smaps_rollup"), ("Pss",))["Pss"]
        self.tree_pss = max(self.tree_pss, pss)

    def megabytes(self):
        return {"private_mb": self.private * 1024 / 1e6, "tree_mb": self.tree_pss * 1024 / 1e6,
                "largest_mb": self.largest_rss * 1024 / 1e6}


def watched(command, environment):
    """Peak memory of one run.

    private_mb: anonymous and shared memory of the first process; files that it maps, such as
    libraries, are not in it. largest_mb: resident set of the largest process. tree_mb: of all
    processes together, each shared page counted once.
    """
    peaks = Peaks()
    with tempfile.TemporaryFile() as error:
        child = subprocess.Popen([str(c) for c in command], stdout=subprocess.DEVNULL, stderr=error,
                                 env=environment)
        sample = 0
        while child.poll() is None:
            peaks.look_at_first(child.pid)
            if sample % TREE_SAMPLES == 0:
                peaks.look_at_tree(child.pid)
            sample += 1
            time.sleep(SAMPLE_S)
        check(command, child.returncode, error)
    return peaks.megabytes()
