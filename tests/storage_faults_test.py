#!/usr/bin/env python3
"""What becomes of a run whose states are on storage when the drive fails it: an error that names the node, the value, the
file and the offset, its own exit code, soon; no file is left behind; the checkpoint written before is whole, and the next
run works.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import unittest  # noqa: E402

import millrace_cli  # noqa: E402
from millrace_cli import BINARY, MillraceTest, sets  # noqa: E402

STORAGE = {"memory__offload__optimizer__tier": "STORAGE", "memory__offload__storage__block_bytes": 65536,
           "memory__offload__storage__queue_depth": 4, "train__micro_batch": 10, "data__eval_count": 20, "train__eval_batch": 10,
           "runtime__trace_steps": 0, "lr_schedule__total_steps": 100}
PATIENCE = 60  # seconds


class StorageFaultsTest(MillraceTest):
    def go(self, steps, *words, code=0, folder="run", environment=None, **settings):
        """A run of so many steps; afterwards no storage file is left in its folder."""
        kept = dict(millrace_cli.ENVIRONMENT)
        millrace_cli.ENVIRONMENT.update(environment or {})
        try:
            words = ["run", "digits_vit", "--folder", self.path(folder), *sets(train__steps=steps, **{**STORAGE, **settings}), *words]
            result = self.call(*words, code=code)
        finally:
            millrace_cli.ENVIRONMENT.clear()
            millrace_cli.ENVIRONMENT.update(kept)
        self.assertEqual(self.files(folder), [])
        return result

    def files(self, folder="run"):
        return [name for name in sorted(os.listdir(self.path(folder))) if name.startswith(("storage.", ".millrace"))]

    def start(self, **settings):
        """A long run in its own process, some steps on its way, a checkpoint written; its storage files."""
        shutil.rmtree(self.path("run"), ignore_errors=True)
        words = ["run", "digits_vit", "--quiet", "--json", "--folder", self.path("run"),
                 *sets(train__steps=1000000, checkpoint__every=5, checkpoint__keep=1, **{**STORAGE, **settings})]
        process = subprocess.Popen([BINARY, *words], env=millrace_cli.ENVIRONMENT, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.kill)
        deadline = time.monotonic() + PATIENCE
        while not os.path.isdir(self.path("run", "checkpoints")) or not any(
                name.startswith("step-") and ".tmp" not in name for name in os.listdir(self.path("run", "checkpoints"))):
            self.assertIsNone(process.poll(), "the run ended by itself")
            self.assertLess(time.monotonic(), deadline, "no checkpoint was written")
            time.sleep(0.02)
        files = self.files()
        self.assertEqual([re.sub(r"\.\d+$", "", name) for name in files], ["storage.rank0", "storage.rank1"])
        return process, [self.path("run", name) for name in files]

    def ended(self, process, code):
        """The process's error, when it has ended as it should."""
        out, err = process.communicate(timeout=PATIENCE)
        self.assertEqual(process.returncode, code, out + err)
        self.assertEqual(self.files(), [])
        message = json.loads(out.splitlines()[-1])["error"]["message"] if code == 3 else ""
        self.assertIn(message.split("\n")[0], err)
        return message

    def assert_goes_on(self):
        """From the checkpoint that the failed run left, for three steps."""
        step = max(int(name.split("-")[1]) for name in os.listdir(self.path("run", "checkpoints")))
        self.assertEqual(self.go(step + 3, "--resume").json["steps"], 3)

    def assert_names_all(self, message, file, *said):
        self.assertRegex(message, r"^node (read|write)/bucket_\d+\S* \(copy\) on rank 0")
        self.assertRegex(message, r"at offset \d+ \((exp_avg|exp_avg_sq|master)/bucket_\d+'?\)")
        for words in (file, *said):
            self.assertIn(words, message)

    def test_a_block_that_was_corrupted_ends_the_step_that_reads_it(self):
        process, files = self.start()
        deadline = time.monotonic() + PATIENCE
        with open(files[0], "r+b", buffering=0) as file:  # until a step reads a page after the last write of it
            while process.poll() is None and time.monotonic() < deadline:
                for page in range(0, os.fstat(file.fileno()).st_size, 4096):
                    os.pwrite(file.fileno(), b"\xa5" * 64, page)
                time.sleep(0.01)
        self.assert_names_all(self.ended(process, 3), files[0], "is corrupted: CRC32C")
        self.assert_goes_on()

    def test_a_file_that_was_shortened_ends_the_step_that_reads_it(self):
        process, files = self.start()
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < deadline:
            try:
                os.truncate(files[0], 4096)
            except FileNotFoundError:
                break
            time.sleep(0.01)
        # A write behind the cut makes the file long again, with a hole: then what is read is not what was written.
        error = self.ended(process, 3)
        words = "it was shortened from outside"
        self.assert_names_all(error, files[0], words if words in error else "is corrupted: CRC32C")
        self.assert_goes_on()

    def test_a_request_that_fails_in_the_middle_of_a_step_ends_it_with_every_engine(self):
        self.go(2)
        for fault, engine, executor in (("read:300", "IO_URING", "FLOW_GRAPH"), ("write:400", "IO_URING", "FLOW_GRAPH"),
                                        ("read:300", "THREADS", "REFERENCE")):
            with self.subTest(fault=fault, engine=engine):
                if engine == "IO_URING" and not self.uring():
                    self.skipTest("io_uring is not permitted here")
                settings = {"memory__offload__storage__engine": engine, "runtime__executor": executor}
                result = self.go(300, "--resume", code=3, environment={"MILLRACE_STORAGE_FAULT": fault}, **settings)
                self.assertRegex(result.json["error"]["message"], r"on rank [01]")
                message = re.sub("on rank 1", "on rank 0", result.json["error"]["message"])
                self.assert_names_all(message, self.path("run", "storage.rank"), "Input/output error")
                self.assertIn(f"{fault.split(':')[0]} of ", message)
        self.assert_goes_on()

    def test_a_hook_that_cannot_be_read_is_bad_input(self):
        result = self.go(2, code=2, environment={"MILLRACE_STORAGE_FAULT": "reed:2"})
        self.assertIn("expected read:N or write:N", result.json["error"]["message"])

    def uring(self):
        return "io_uring refused" not in self.go(1, folder="probe").json["storage"]

    def test_where_io_uring_is_refused_threads_take_over_and_the_run_says_so(self):
        off = {"MILLRACE_IO_URING": "off"}
        result = self.go(2, environment=off)
        self.assertIn("a thread pool is used, io_uring refused: MILLRACE_IO_URING=off", result.err)
        self.assertTrue(result.json["storage"].startswith("thread pool"), result.json["storage"])
        self.assertEqual(result.json["weights_sha256"], self.go(2, folder="other").json["weights_sha256"])
        demanded = self.go(2, code=2, environment=off, memory__offload__storage__engine="IO_URING")
        self.assertIn("io_uring refused: MILLRACE_IO_URING=off", demanded.json["error"]["message"])
        self.assertIn("use threads", demanded.err)

    def refused(self, folder, *said):
        """Bad input, found before the data, which are not there, are looked for."""
        missing = {"data__images": "no/such/file", "data__labels": "no/such/file"}
        result = self.call("run", "digits_vit", "--folder", self.path("run"),
                           *sets(train__steps=2, memory__offload__storage__folder=folder, **STORAGE, **missing), code=2)
        for words in (folder, *said):
            self.assertIn(words, result.json["error"]["message"])
        self.assertNotIn("no/such/file", result.json["error"]["message"])

    def test_a_folder_that_cannot_hold_the_files_is_refused_before_anything_is_loaded(self):
        self.refused(self.path("absent"), "No such file or directory")
        self.refused(self.write("file", "x"), "is not a folder")
        if os.geteuid() != 0:  # root may write anywhere
            os.mkdir(self.path("closed"), 0o500)
            self.refused(self.path("closed"), "Permission denied")
        # A folder that nobody, not even root, can write to.
        self.refused("/proc", "a file cannot be made in it")

    def test_a_drive_without_room_is_refused_with_what_is_missing(self):
        os.mkdir(self.path("tiny"))
        mounted = os.geteuid() == 0 and subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", self.path("tiny")], capture_output=True, check=False).returncode == 0
        if not mounted:
            self.skipTest("mounting a small file system is not permitted here")
        self.addCleanup(subprocess.run, ["umount", self.path("tiny")], check=False)
        self.refused(self.path("tiny"), "has 256 KiB free, the run needs 2.344 MiB", "bytes are missing")
        # What an interrupted run left there is no reason to fail.
        self.assertEqual(os.listdir(self.path("tiny")), [])

    def test_after_an_interrupt_no_file_stays(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(signal=number):
                process, _ = self.start()
                process.send_signal(number)
                self.ended(process, 130)
                self.assert_goes_on()

    def test_what_a_killed_run_leaves_the_next_one_removes_but_never_a_living_ones_files(self):
        process, files = self.start()
        process.kill()
        process.wait()
        self.assertEqual([self.path("run", name) for name in self.files()], files)
        # Another run in the same storage folder: its files are its own, the dead one's go.
        result = self.go(2, folder="other", memory__offload__storage__folder=self.path("run"))
        for file in files:
            self.assertIn(f"removed {file}, which a run that was killed left behind", result.err)
        self.assertEqual(self.files(), [])
        process, files = self.start()
        self.go(2, folder="third", memory__offload__storage__folder=self.path("run"))
        self.assertEqual([self.path("run", name) for name in self.files()], files)
        process.send_signal(signal.SIGINT)
        self.ended(process, 130)


class StorageOutlookTest(MillraceTest):
    """Before the first step it is said whether the drive decides how long one takes."""

    def outlook(self, verb, *words, **settings):
        result = self.call(verb, "digits_vit", *words, *sets(**{**STORAGE, **settings}))
        return result.json["storage_outlook"], result.err

    def machine(self, rate):
        with open("pipelines/machines/cpu_2_cores.textproto", encoding="utf-8") as file:
            text = re.sub(r"(?m)^\s*storage_(read|write)_bytes_per_second.*$", "", file.read())
        if not re.search(r"(?m)^host\s*{", text):
            text += "\nhost {\n}\n"
        rates = f"storage_read_bytes_per_second: {rate} storage_write_bytes_per_second: {rate}"
        return self.write(f"drive_{rate}.textproto", re.sub(r"(?m)^host\s*{", f"host {{ {rates}", text))

    def test_a_slow_drive_is_said_to_bound_the_step_with_what_would_help(self):
        slow = self.machine(5000000)
        for verb in ("plan", "simulate"):
            said, err = self.outlook(verb, machine=slow)
            self.assertTrue(said["bound"])
            self.assertRegex(err, r"I/O-bound: \S+ m?s of \S+ m?s on storage; a drive twice as fast would give ")
        faster = self.call("simulate", "digits_vit", "--what_if", "storage.read=2x,storage.write=2x",
                           *sets(machine=slow, **STORAGE)).json
        self.assertAlmostEqual(said["step_seconds"], faster["step_seconds"], 9)
        self.assertAlmostEqual(said["twice_as_fast_seconds"], faster["what_if"]["step_seconds"], 9)
        ratio = self.call("simulate", "digits_vit", *sets(machine=slow, memory__offload__optimizer__ratio=said["ratio"], **STORAGE))
        self.assertAlmostEqual(said["ratio_seconds"], ratio.json["step_seconds"], 9)
        self.assertLess(said["ratio_seconds"], said["step_seconds"])

    def test_a_fast_drive_bounds_nothing_and_without_storage_nothing_is_said(self):
        said, err = self.outlook("simulate", machine=self.machine(50000000000))
        self.assertFalse(said["bound"])
        self.assertIn("not I/O-bound: storage works ", err)
        plain = self.call("simulate", "digits_vit")
        self.assertNotIn("storage_outlook", plain.json)
        self.assertNotIn("I/O-bound", plain.err)

    def test_a_run_says_it_of_the_drive_that_it_probed(self):
        probing = {name: value for name, value in STORAGE.items() if "storage__" not in name}
        result = self.call("run", "digits_vit", "--folder", self.path("run"), *sets(train__steps=1, **probing))
        self.assertIn("I/O-bound", result.err)
        self.assertLess(result.err.index("I/O-bound"), result.err.index("step 1/1"))
        self.assertGreater(result.json["storage_outlook"]["storage_seconds"], 0)


if __name__ == "__main__":
    unittest.main()
