"""What the checks stand on: where things are on this machine, the clock, and running a program within its time.

  c = Context(arguments)
  out = c.sh([c.program("tools/bazel/cuda_smoke")])              # Failed, TimedOut
  result, folder = c.train("digits_vit", ["train.steps=3"])      # millrace run, its last line as an object
"""

import gzip
import importlib.util
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
FILE_LIMIT = 16 << 20
TAIL = 3000


class Failed(Exception):
    """The item ran and did not do what it should."""


class Skipped(Exception):
    """The item means nothing here."""


class TimedOut(Exception):
    """The item's time was over."""


def torch_folders():
    """Where the machine's PyTorch and the libraries that it needs lie."""
    found = importlib.util.find_spec("torch")
    if found is None or not found.submodule_search_locations:
        return []
    torch = list(found.submodule_search_locations)[0]
    nvidia = os.path.join(os.path.dirname(torch), "nvidia")
    folders = [os.path.join(torch, "lib")]
    for package in sorted(os.listdir(nvidia)) if os.path.isdir(nvidia) else []:
        folder = os.path.join(nvidia, package, "lib")
        if os.path.isdir(folder):
            folders.append(folder)
    return folders


def newest_symbol(path):
    """The newest version of libstdc++'s interface that a file has, (3, 4, 30)."""
    with open(path, "rb") as file:
        versions = re.findall(rb"GLIBCXX_(\d+)\.(\d+)\.(\d+)", file.read())
    return max((tuple(map(int, v)) for v in versions), default=(0,))


def needs_our_gcc(folder):
    listed = subprocess.run(["ldconfig", "-p"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False,
                            env={**os.environ, "PATH": os.environ.get("PATH", "") + ":/sbin:/usr/sbin"}).stdout
    system = re.search(r"libstdc\+\+\.so\.6 .*=> (\S+)", listed)
    packed = os.path.join(folder, "libstdc++.so.6")
    return os.path.exists(packed) and (system is None or newest_symbol(system.group(1)) < newest_symbol(packed))


class GpuWatch:
    """Samples nvidia-smi while a heavy item runs: highest memory and temperature, mean utilisation."""

    QUERY = "memory.used,utilization.gpu,temperature.gpu"

    def __init__(self, on):
        self.rows, self.process = [], None
        if not on:
            return
        try:
            self.process = subprocess.Popen(["nvidia-smi", f"--query-gpu={self.QUERY}", "--format=csv,noheader,nounits", "-lms", "250"],
                                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        except OSError:
            return
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        for line in self.process.stdout:
            try:
                self.rows.append([float(word) for word in line.split(",")])
            except ValueError:
                pass  # "[N/A]"

    def figures(self):
        if self.process is None:
            return {}
        self.process.terminate()
        self.process.wait()
        self.thread.join(5)
        if not self.rows:
            return {}
        memory, busy, heat = zip(*self.rows)
        return {"device_used_bytes_max": int(max(memory) * 2**20), "gpu_utilisation_mean": statistics.mean(busy) / 100,
                "gpu_temperature_max": max(heat)}


class Context:
    """What items share: where things are, what was packed, the environment, the clock."""

    def __init__(self, a):
        self.cpu, self.out = a.cpu, os.path.abspath(a.out)
        self.end = time.monotonic() + a.seconds
        self.work = tempfile.mkdtemp(prefix="gpu_check_")
        with open(os.path.join(HERE, "pack.json"), encoding="utf-8") as file:
            self.pack = json.load(file)
        folders = [os.path.join(HERE, "lib")]
        if needs_our_gcc(os.path.join(HERE, "lib", "gcc")):
            folders.append(os.path.join(HERE, "lib", "gcc"))
        torch = [a.torch_lib] if a.torch_lib else torch_folders()
        if not torch:
            sys.exit("this Python has no torch: start run.py with the one that has, or name --torch_lib")
        old = os.environ.get("LD_LIBRARY_PATH")
        self.libraries = folders + torch + ([old] if old else [])
        self.environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(self.libraries), "MILLRACE_TORCH_LIB": torch[0]}
        for library in self.pack["libraries"]:
            self.environment["MILLRACE_LIB"] = os.path.dirname(os.path.join(HERE, library))
        self.machine = "cpu_2_cores" if self.cpu else "one_gpu"
        self.item_end, self.commands, self.tail, self.traces = self.end, [], "", []

    def program(self, name):
        return os.path.join(HERE, name)

    def sh(self, command, environment=None):
        """Runs a command within the item's time; returns its stdout."""
        left = self.item_end - time.monotonic()
        shown = " ".join(word.replace(HERE + os.sep, "").replace(self.work, "WORK") for word in command)
        self.commands.append(shown)
        with tempfile.TemporaryFile("w+") as err:
            process = subprocess.Popen(command, cwd=HERE, env=environment or self.environment, stdin=subprocess.DEVNULL,
                                       stdout=subprocess.PIPE, stderr=err, text=True, start_new_session=True)
            try:
                out, _ = process.communicate(timeout=max(1, left))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # the command's own processes
                out, _ = process.communicate()
                self.remember(out, err)
                raise TimedOut(shown) from None
            said = self.remember(out, err)
        if process.returncode != 0:
            lines = [line for line in said.splitlines() if line.strip()]
            errors = [line for line in lines if "error" in line.lower()] + lines[-1:]
            raise Failed(f"exit {process.returncode}{': ' + errors[0][:500] if errors else ''} ({shown})")
        return out

    def remember(self, out, err):
        """Keeps the end of what a program said; returns what it said beside its results."""
        err.seek(0)
        said = err.read()
        self.tail = (self.tail + said[-TAIL:] + out[-TAIL:])[-TAIL:]
        return said

    def millrace(self, verb, pipeline, sets=(), more=()):
        """One verb with --json; returns the object."""
        command = [self.program("tools/millrace"), verb, pipeline, "--json", *more]
        for word in sets:
            command += ["--set", word]
        return json.loads(self.sh(command).splitlines()[-1])

    def train(self, pipeline, sets, name=None):
        """`millrace run` on the machine under test; with a name its trace is kept. Returns (result, folder)."""
        folder = tempfile.mkdtemp(dir=self.work)
        r = self.millrace("run", pipeline, [f"machine={self.machine}", *sets], ["--quiet", "--folder", folder])
        if r["unplanned_allocations"]:
            raise Failed(f"{r['unplanned_allocations']} allocations that no plan knew")
        if name:
            self.keep(r["outputs"]["trace"], name)
        return r, folder

    def keep(self, trace, name):
        target = os.path.join(self.out, f"{name}.trace.json.gz")
        with open(trace, "rb") as source, gzip.open(target, "wb") as file:
            file.write(source.read())
        if os.path.getsize(target) > FILE_LIMIT:
            os.remove(target)
            raise Failed(f"the trace {name} is larger than {FILE_LIMIT} bytes")
        self.traces.append(os.path.basename(target))
