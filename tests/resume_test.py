#!/usr/bin/env python3
"""A run that was stopped and resumed is the run that was not: the same weights and losses to the last bit, after a
planned end, after Ctrl-C, under another ZeRO stage and world size. And a checkpoint that does not fit is refused.
"""

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import unittest  # noqa: E402

from millrace_cli import BINARY, ENVIRONMENT, MillraceTest, sets  # noqa: E402

# The same learning rates however long the run is. An epoch has 30 steps: the runs go beyond one.
COMMON = {"lr_schedule__warmup_steps": 5, "lr_schedule__total_steps": 40, "train__micro_batch": 25, "data__count": 1500,
          "data__eval_count": 20, "train__eval_batch": 10}


def losses(folder):
    """{step: loss} of metrics.jsonl; a step that is there twice is an error."""
    found = {}
    with open(os.path.join(folder, "metrics.jsonl"), encoding="utf-8") as file:
        for line in map(json.loads, file):
            if "loss" in line:
                assert line["step"] not in found, line
                found[line["step"]] = line["loss"]
    return found


def tensors_of(path):
    """(header, data) of a safetensors file."""
    with open(path, "rb") as file:
        content = file.read()
    size = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8:8 + size]), content[8 + size:]


def write_tensors(path, header, data):
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


class RunsTest(MillraceTest):
    def go(self, steps, folder, *words, pipeline="digits_vit", code=0, **settings):
        settings = {**COMMON, "train__steps": steps, **settings}
        result = self.train(pipeline, *words, code=code, folder=folder, **settings)
        left = [name for _, folders, files in os.walk(self.path(folder)) for name in folders + files if ".tmp" in name]
        self.assertEqual(left, [], "no temporary file stays")
        return result

class ResumeTest(RunsTest):
    def checkpoints(self, folder):
        return sorted(os.listdir(self.path(folder, "checkpoints")))

    def assert_same_run(self, one, other, last_step):
        self.assertEqual(losses(self.path(one)), losses(self.path(other)))
        self.assertEqual(sorted(losses(self.path(one))), list(range(1, last_step + 1)))

    def test_a_resumed_run_equals_an_uninterrupted_one(self):
        whole = self.go(34, "whole").json
        self.go(17, "halves")
        resumed = self.go(34, "halves", "--resume").json
        self.assertEqual((resumed["steps"], resumed["last_step"]), (17, 34))
        self.assertEqual(resumed["weights_sha256"], whole["weights_sha256"])
        self.assertEqual(resumed["metrics"], whole["metrics"])
        self.assert_same_run("whole", "halves", 34)

    def test_accumulation_and_sgd_resume_as_well(self):
        settings = {"train__micro_batch": 5, "train__accumulation": 2, "optimizer__kind": "SGD", "parallel__zero__stage": 3}
        whole = self.go(6, "whole", **settings).json
        self.go(3, "halves", **settings)
        resumed = self.go(6, "halves", "--resume", **settings).json
        self.assertEqual(resumed["weights_sha256"], whole["weights_sha256"])
        self.assert_same_run("whole", "halves", 6)

    def test_a_step_written_by_hand_resumes_as_well(self):
        def go(steps, folder, *words):
            return self.train("two_layer", *words, folder=folder, train__steps=steps, train__log_every=1).json

        whole = go(40, "whole")
        go(20, "halves")
        self.assertEqual(go(40, "halves", "--resume")["weights_sha256"], whole["weights_sha256"])
        self.assert_same_run("whole", "halves", 40)

    def test_a_checkpoint_loads_under_another_stage(self):
        self.go(5, "stage2")
        whole = self.go(10, "whole", parallel__zero__stage=0).json
        for stage in (0, 3):
            shutil.copytree(self.path("stage2"), self.path(f"to{stage}"))
            resumed = self.go(10, f"to{stage}", "--resume", parallel__zero__stage=stage).json
            self.assertEqual(resumed["weights_sha256"], whole["weights_sha256"])

    def test_an_interrupted_run_stops_cleanly_and_resumes_bit_identically(self):
        words = ["run", "digits_vit", "--quiet", "--json", "--folder", self.path("run"), *sets(train__steps=100000, **COMMON)]
        process = subprocess.Popen([BINARY, *words], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.kill)
        deadline = time.monotonic() + 60
        while not os.path.exists(self.path("run", "metrics.jsonl")) or not losses(self.path("run")):
            self.assertIsNone(process.poll(), "the run ended by itself")
            self.assertLess(time.monotonic(), deadline, "no step was made")
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, out + err)
        stopped = json.loads(out.splitlines()[-1])
        self.assertTrue(stopped["interrupted"])
        step = stopped["last_step"]
        self.assertEqual(self.checkpoints("run"), [f"step-{step:08}"])
        self.assertEqual(max(losses(self.path("run"))), step)

        resumed = self.go(step + 3, "run", "--resume").json
        self.assertEqual((resumed["steps"], resumed["interrupted"]), (3, False))
        whole = self.go(step + 3, "whole").json
        self.assertEqual(resumed["weights_sha256"], whole["weights_sha256"])
        self.assert_same_run("whole", "run", step + 3)

    def test_the_newest_checkpoints_are_kept_and_each_can_be_resumed_from(self):
        self.go(7, "run", checkpoint__every=2, checkpoint__keep=3)
        self.assertEqual(self.checkpoints("run"), ["step-00000004", "step-00000006", "step-00000007"])
        whole = self.go(8, "whole").json
        # From the one before the last: what the first run wrote beyond it is made again, not doubled.
        from_six = self.go(8, "run", "--resume=" + self.path("run", "checkpoints", "step-00000006")).json
        self.assertEqual((from_six["steps"], from_six["weights_sha256"]), (2, whole["weights_sha256"]))
        self.assert_same_run("whole", "run", 8)

    def test_weights_alone_start_a_new_run(self):
        self.go(3, "first")
        model = self.path("first", "checkpoints", "step-00000003", "model.safetensors")
        again = self.go(3, "second", checkpoint__init_from=f'"{model}"')
        self.assertEqual(again.json["steps"], 3)
        self.assertNotEqual(losses(self.path("second"))[1], losses(self.path("first"))[1])


class RefusedCheckpointTest(RunsTest):
    def refused(self, *said, **settings):
        """Resuming exits with 2, says the words, and leaves the run as it was."""
        metrics = losses(self.path("run"))
        result = self.go(4, "run", "--resume", code=2, **settings)
        for words in said:
            self.assertIn(words, result.json["error"]["message"])
            self.assertIn(words, result.err)
        self.assertEqual(losses(self.path("run")), metrics)

    def test_a_checkpoint_that_does_not_fit_is_refused_with_its_file(self):
        self.go(2, "run")
        step = self.path("run", "checkpoints", "step-00000002")
        model, state = os.path.join(step, "model.safetensors"), os.path.join(step, "state.json")
        shutil.copytree(step, self.path("good"))
        self.refused(state, "trained with ADAMW", "optimizer.kind: SGD", "init_from", optimizer__kind="SGD")
        self.refused("seed 1", "init_from", train__seed=2)

        header, data = tensors_of(model)
        first = next(name for name in header if name != "__metadata__")

        def flip():
            write_tensors(model, header, bytes([data[0] ^ 1]) + data[1:])

        def cut():
            os.truncate(model, os.path.getsize(model) - 100)

        def rename():
            write_tensors(model, {name + "x" if name == first else name: entry for name, entry in header.items()}, data)

        def reshape():
            whole = next(name for name, entry in header.items() if len(entry.get("shape", [])) == 2)
            shape = header[whole]["shape"]
            write_tensors(model, {**header, whole: {**header[whole], "shape": [shape[0] * shape[1]]}}, data)

        def not_a_number():
            with open(state, "w", encoding="utf-8") as file:
                file.write('{"format": 1, "step": "two"}')

        for damage, said in [(flip, [model, "fingerprint"]), (cut, [model]), (rename, [model, f"'{first}'", f"'{first}x'"]),
                             (reshape, [model, "the model has f32"]), (lambda: os.remove(model), [model]), (not_a_number, [state])]:
            with self.subTest(said=said):
                damage()
                self.refused(*said)
                shutil.rmtree(step)
                shutil.copytree(self.path("good"), step)
        self.go(4, "run", "--resume")

    def test_resuming_without_a_checkpoint_says_where_it_looked(self):
        result = self.go(4, "empty", "--resume", code=2)
        self.assertIn(self.path("empty", "checkpoints"), result.json["error"]["message"])


if __name__ == "__main__":
    unittest.main()
