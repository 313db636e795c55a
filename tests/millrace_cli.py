"""The command line as its users see it, for tests that look at the whole product: run it, read its last line.

The binary is the one beside the test's inputs; MILLRACE=PATH takes another one, for work on a test without Bazel.
"""

import json
import os
import shutil
import subprocess
import tempfile
import unittest

BINARY = os.path.abspath(os.environ.get("MILLRACE", "tools/millrace"))

# Where and how an error was seen must not depend on who started the test.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "BUILD_WORKING_DIRECTORY"}


class Result:
    """What a command left: .code, .out, .err, and .json, the object in the last line of its stdout."""

    def __init__(self, words, done):
        self.words = words
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    @property
    def json(self):
        return json.loads(self.out.splitlines()[-1])

    def __str__(self):
        return f"millrace {' '.join(self.words)}\nexit {self.code}\n{self.out}{self.err}"


def call(*words):
    """Runs `millrace WORDS`, whatever becomes of it. A command that hangs is an error after two minutes."""
    done = subprocess.run(
        [BINARY, *words], env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
    return Result(words, done)


def sets(**settings):
    """sets(train__steps=3) -> ["--set", "train.steps=3"]."""
    return [word for path, value in settings.items() for word in ("--set", f"{path.replace('__', '.')}={value}")]


class MillraceTest(unittest.TestCase):
    """A test with a folder of its own, self.folder, that is gone afterwards."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(dir=os.environ.get("TEST_TMPDIR"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def write(self, name, content):
        with open(self.path(name), "wb" if isinstance(content, bytes) else "w") as file:
            file.write(content)
        return self.path(name)

    def call(self, *words, code=0):
        """Runs a verb with --json and expects the exit code."""
        result = call(*words, "--json")
        self.assertEqual(result.code, code, str(result))
        return result

    def train(self, pipeline, *words, code=0, folder="run", **settings):
        return self.call("run", pipeline, "--quiet", "--folder", self.path(folder), *sets(**settings), *words, code=code)


# A short warm-up: after 20 steps the weights are far from where they began.
LEARN = {"lr_schedule__warmup_steps": 5, "train__micro_batch": 25, "runtime__trace_steps": 0, "checkpoint__save": "false"}


class DigitsTest(MillraceTest):
    """Short runs of digits_vit, compared by their weights."""

    def run_once(self, steps=20, stage=2, **settings):
        """The result of a run whose memory is checked. `stage` etc. are settings of digits_vit."""
        settings = {**LEARN, "train__steps": steps, "parallel__zero__stage": stage, **settings}
        r = self.train("digits_vit", "--losses", **settings).json
        self.assertEqual(r["peak_bytes_measured"], r["peak_bytes_predicted"], settings)
        self.assertGreater(r["peak_bytes_measured"]["device"], 0)
        self.assertEqual(r["unplanned_allocations"], 0, settings)
        self.assertEqual(r["steps"], steps)
        return r

    def weights_of(self, *runs):
        """One hash for all of `runs`, each a dict of settings."""
        hashes = {str(run): self.run_once(**run)["weights_sha256"] for run in runs}
        self.assertEqual(len(set(hashes.values())), 1, hashes)
        return next(iter(hashes.values()))
