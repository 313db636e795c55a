#!/usr/bin/env python3
"""A step that fails or gets stuck ends the run: with the node's name and its own exit code, soon, with no process left,
and without a checkpoint of a half-done step.
"""

import os
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import unittest  # noqa: E402

from millrace_cli import MillraceTest, sets  # noqa: E402


class FailingStepTest(MillraceTest):
    def pipeline_with_label(self, name, label, sample):
        """Writes pipeline `name` whose data have the label at the sample. The classes of the digits are 0 to 9."""
        with open("data/digits/labels.idx1-ubyte", "rb") as file:
            labels = bytearray(file.read())
        labels[8 + sample] = label
        self.write("labels.idx", bytes(labels))
        with open(f"pipelines/{name}.textproto", encoding="utf-8") as file:
            return self.write(f"{name}.textproto", file.read().replace("data/digits/labels.idx1-ubyte", "labels.idx"))

    def test_a_failing_node_ends_the_run_with_its_name_and_exit_code_3(self):
        # A step written by hand does not say how many classes it has: its loss is the first to see the label.
        pipeline = self.pipeline_with_label("two_layer", label=10, sample=700)
        for settings in ({}, {"runtime__executor": "REFERENCE"}):
            result = self.train(pipeline, code=3, train__steps=30, **settings)
            error = result.json["error"]
            self.assertEqual(error["code"], "OUT_OF_RANGE")
            for said in (error["message"], result.err):
                self.assertRegex(said, r"node loss \(softmax_cross_entropy\) on rank [01]")
                self.assertIn("label 10", said)
            self.assertEqual(sorted(os.listdir(self.path("run"))), ["certificate.textproto", "metrics.jsonl"])

    def test_a_model_refuses_the_same_data_before_the_first_step(self):
        pipeline = self.pipeline_with_label("digits_vit", label=10, sample=700)
        finding = self.train(pipeline, code=2).json["error"]["findings"][0]
        self.assertEqual((finding["file"], finding["line"] > 0), (pipeline, True))
        self.assertIn("label 10 of sample 700", finding["message"])

    def test_a_step_without_progress_is_reported_as_stuck_with_exit_code_4(self):
        # No kernel hangs by itself; patience that is shorter than a node shows the same report.
        began = time.monotonic()
        result = self.train("vit_small", code=4, train__steps=100, runtime__stuck_seconds=1e-5)
        self.assertLess(time.monotonic() - began, 60)
        error = result.json["error"]
        self.assertEqual(error["code"], "DEADLINE_EXCEEDED")
        for said in (error["message"], result.err):
            self.assertIn("is stuck", said)
            for rank in (0, 1):
                self.assertRegex(said, rf"(?m)^rank {rank}: (runs|waits for) \S+")

    def test_a_failed_run_can_be_started_again_in_the_same_folder(self):
        self.train(self.pipeline_with_label("two_layer", label=200, sample=0), code=3, train__steps=30)
        self.assertEqual(self.train("two_layer", train__steps=30).json["steps"], 30)

    def test_an_unreadable_run_folder_is_bad_input(self):
        self.write("file", "not a folder")
        result = self.call("run", "two_layer", "--quiet", "--folder", self.path("file", "run"), *sets(train__steps=1), code=2)
        self.assertIn(self.path("file"), result.json["error"]["message"])


if __name__ == "__main__":
    unittest.main()
