# SPDX-License-Identifier: Apache-2.0
"""Runs commands and tells what they took: wall time, processor time of the process tree, memory.

Time and memory come from separate runs, so that looking at memory does not cost time.
"""
import ctypes
import json
import os
import re
import resource
import signal
import subprocess
import tempfile
import time
from pathlib import Path

SAMPLE_S = 0.01
TREE_SAMPLES = 5  # the whole tree is looked at in every so many samples
END_SAMPLE_S = 0.005  # how often to see whether a command has ended
CENSUS_FROM_S = 2     # no look at the processes of runs that are shorter
LOOKING_PAUSE = 30    # times what a look took
ORPHANS_END_S = 10  # what a command leaves running has this long before it is killed
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


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


def processes():
    """{pid: (parent, ticks of processor time, when it began)} of all."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", "rb") as text:
                fields = text.read().rpartition(b")")[2].split()
            found[int(pid)] = (int(fields[1]), int(fields[11]) + int(fields[12]), int(fields[19]))
        except (OSError, IndexError):
            continue
    return found


def tree(pid, everybody=None):
    """The process and all its descendants."""
    children = {}
    for one, (parent, _, _) in (everybody or processes()).items():
        children.setdefault(parent, []).append(one)
    found = [pid]
    for one in found:
        found += children.get(one, [])
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

    def look_at_all(self, pids):
        """private_mb and tree_mb over all of these."""
        private = pss = 0
        for one in pids:
            found = kilobytes(Path(f"/proc/{one}/smaps_rollup"),
                              ("Pss", "Private_Clean", "Private_Dirty"))
            pss += found["Pss"]
            private += found["Private_Clean"] + found["Private_Dirty"]
        self.private, self.tree_pss = max(self.private, private), max(self.tree_pss, pss)

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


# --- commands that leave daemons behind ------------------------------------------------------------


def adopt_orphans():
    """From now on processes whose parents end become children of this one, so that their time is
    counted and nothing stays behind. See prctl(2), PR_SET_CHILD_SUBREAPER."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def descendants():
    return tree(os.getpid())[1:]


def reap():
    """True if there are no children any more."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0] != 0:
            pass
    except ChildProcessError:
        return True
    return False


def end_all():
    """Waits for what the command left, and ends it after a while."""
    deadline = time.monotonic() + ORPHANS_END_S
    while not reap():
        late = time.monotonic() - deadline
        for pid in descendants() if late > 0 else []:
            try:
                os.kill(pid, signal.SIGTERM if late < ORPHANS_END_S else signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.02 if late <= 0 else 0.5)


class Census:
    """The processor time of each process as it was last seen. A process whose parent ignores the
    end of its children, as Spark's workers are, is in nobody's rusage; here it is."""

    def __init__(self):
        self.ticks = {}

    def look(self):
        everybody = processes()
        pids = tree(os.getpid(), everybody)[1:]
        for pid in pids:
            _, ticks, began = everybody[pid]
            self.ticks[pid, began] = ticks
        return pids

    def cpu_s(self):
        return sum(self.ticks.values()) / os.sysconf("SC_CLK_TCK")


def wait_for(child, deadline, census, peaks):
    """The command's exit code, or None when the time is over."""
    pause, next_look = END_SAMPLE_S, 0 if peaks is not None else time.monotonic() + CENSUS_FROM_S
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child.pid, os.WNOHANG)
        if pid != 0:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= next_look:
            began = time.process_time()
            pids = census.look()
            if peaks is not None:
                peaks.look_at_all(pids)
            next_look = time.monotonic() + LOOKING_PAUSE * (time.process_time() - began)
        time.sleep(pause)
    return None


def whole(command, environment, timeout_s, watch=False):
    """One run of a command with everything that it starts, daemons too; adopt_orphans() first.

    seconds until the command itself ends; cpu_s of everything, from rusage or from the looks at all
    processes, whichever is more; with watch the memory of the tree as well, which costs a little of
    both. "said" is what it printed as lines of JSON.
    """
    peaks, census, others = Peaks() if watch else None, Census(), Others()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as error:
        began = time.monotonic()
        child = subprocess.Popen([str(c) for c in command], stdout=out, stderr=error,
                                 stdin=subprocess.DEVNULL, env=environment)
        code = wait_for(child, began + timeout_s, census, peaks)
        seconds = time.monotonic() - began
        if code is None:
            child.terminate()
        child.returncode = -1 if code is None else code
        end_all()
        if code is None:
            raise CommandFailed(f"{text_of(command)}: not done after {timeout_s} s")
        check(command, code, error)
        out.seek(0)
        said = [json.loads(line) for line in out if line.startswith(b"{")]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    waited_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = {"seconds": seconds, "others": others.share(), "said": said, "waited_cpu_s": waited_s,
             "cpu_s": max(waited_s, census.cpu_s())}
    return {**found, **peaks.megabytes()} if watch else found
