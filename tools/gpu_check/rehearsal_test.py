#!/usr/bin/env python3
"""What goes to a machine with a GPU works without one: the pack is complete and small enough, its programs run outside the
build's folders, and run.py's checks all run on the CPU back end, tell passed from failed and keep to their time.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

import pack  # noqa: E402

ARGUMENTS = None
# What has no meaning on a CPU, or needs the packages of PyTorch, which a test must not.
MAY_BE_SKIPPED = {"smoke", "cuda graphs same weights", "vit_huge bf16 cuda graphs", "kernels", "peer vit_huge", "peer vit_base", "peer adamw",
                  "peer rat_optimized"}


def libtorch():
    """The folder of the LibTorch that the build uses, as the program's own search finds it."""
    program = os.path.realpath(next(p for p in ARGUMENTS.programs if p.endswith("millrace")))
    listed = subprocess.run(["ldd", program], stdout=subprocess.PIPE, text=True, check=True).stdout
    [path] = [line.split(" => ")[1].split(" (")[0] for line in listed.splitlines() if "libtorch_cpu.so" in line]
    return os.path.dirname(path)


class RehearsalTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(dir=os.environ.get("TEST_TMPDIR"))
        cls.packed = os.path.join(cls.folder, "pack")
        cls.contents = pack.pack(cls.packed, ARGUMENTS.programs, [], ARGUMENTS.files, ARGUMENTS.torch)

    def check(self, *words, **environment):
        """run.py as a user starts it: from somewhere else, with nothing of the build around it."""
        out = os.path.join(self.folder, self.id().rsplit(".", 1)[1])
        done = subprocess.run([sys.executable, os.path.join(self.packed, "run.py"), "--out", out, "--cpu", "--torch_lib", libtorch(),
                               *words],
                              cwd="/", env={"PATH": os.environ["PATH"], **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=800, check=False)
        with open(os.path.join(out, "results.json"), encoding="utf-8") as file:
            return done, json.load(file), out

    def test_the_pack_is_small_and_has_what_the_programs_load(self):
        self.assertLess(pack.size_of(self.packed), pack.LIMIT)
        self.assertEqual(self.contents["torch"].count("."), 2)
        names = os.listdir(os.path.join(self.packed, "lib"))
        for wanted in ("libtbb", "libprotobuf", "libabsl_status"):
            self.assertTrue(any(n.startswith(wanted) for n in names), names)
        for foreign in ("libtorch", "libc10", "libcudart", "libc.so", "libm.so"):
            self.assertFalse(any(n.startswith(foreign) for n in names), names)

    def test_every_check_runs_on_the_cpu(self):
        done, results, out = self.check("--seconds", "700")
        told = {r["name"]: (r["status"], r.get("why")) for r in results["items"]}
        self.assertEqual(done.returncode, 0, done.stdout)
        for name, (status, why) in told.items():
            self.assertIn(status, ("passed", "skipped") if name in MAY_BE_SKIPPED else ("passed",), (name, why))
        by_name = {r["name"]: r for r in results["items"]}
        self.assertGreater(by_name["test norm_test"]["figures"]["tests"], 0)
        self.assertEqual(len(by_name["zero stages 0-3 same weights"]["figures"]["runs"]), 4)
        offloaded = by_name["vit_huge bf16 optimizer on the host"]["figures"]
        self.assertEqual(offloaded["host_bytes_predicted"], offloaded["host_bytes_measured"])
        for trace in by_name["quickstart"]["traces"]:
            self.assertGreater(os.path.getsize(os.path.join(out, trace)), 1000)

    def test_a_program_that_fails_takes_too_long_or_runs_no_test_is_told_apart(self):
        name = next(p for p in self.contents["programs"] if p.endswith("_test"))
        program = os.path.join(self.packed, name)
        os.rename(program, program + ".kept")
        self.addCleanup(os.replace, program + ".kept", program)
        for script, status in (("echo broken; exit 3", "failed"), ("echo broken; sleep 600", "timeout"),
                               ("echo 'broken: Skipped'; echo '[  PASSED  ] 7 tests.'", "skipped")):
            with open(program, "w", encoding="utf-8") as file:
                file.write(f"#!/bin/sh\n{script}\n")
            os.chmod(program, 0o755)
            done, results, _ = self.check("--only", "norm_test", "--seconds", "8")
            self.assertEqual(done.returncode, 0 if status == "skipped" else 1, done.stdout)
            [item] = results["items"]
            self.assertEqual(item["status"], status, item)
            self.assertTrue(item["tail"].startswith("broken"), item)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--programs", nargs="+")
    parser.add_argument("--files", nargs="+")
    parser.add_argument("--torch")
    ARGUMENTS, rest = parser.parse_known_args()
    unittest.main(argv=sys.argv[:1] + rest)
