#!/usr/bin/env python3
"""Predictions rest on measurements where there are some: calibrate writes a table, a pipeline names it, and what is
planned and simulated changes - what is computed does not. And what-if asks the simulator of other machines.
"""

import os
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import unittest  # noqa: E402

from millrace_cli import MillraceTest, call, sets  # noqa: E402


class CalibrateTest(MillraceTest):
    def test_a_table_predicts_the_run_that_made_it_and_changes_no_weight(self):
        table = self.path("costs.textproto")
        made = self.call("calibrate", "digits_vit", "--steps", "6", "--out", table).json
        self.assertEqual(made["out"], table)
        with open(table, encoding="utf-8") as file:
            text = file.read()
        self.assertIn('pipeline: "digits_vit"', text)
        for op in ("forward", "backward", "adamw", "reduce_scatter", "all_gather", "load_batch"):
            self.assertIn(f'op: "{op}"', text)
        by_machine = self.call("simulate", "digits_vit").json["step_seconds"]
        by_table = self.call("simulate", "digits_vit", *sets(costs=table)).json["step_seconds"]
        self.assertEqual(by_table, made["simulated_step_seconds"])
        self.assertNotEqual(by_table, by_machine)
        # Of the same order as the clock's, however busy this machine is.
        self.assertLess(abs(by_table - made["step_seconds_median"]), made["step_seconds_median"])
        plain = self.train("digits_vit", train__steps=4).json
        costed = self.train("digits_vit", train__steps=4, costs=table).json
        self.assertEqual(plain["weights_sha256"], costed["weights_sha256"])
        self.assertAlmostEqual(costed["simulated_step_seconds"], by_table, delta=1e-8)  # a trace has nanoseconds

    def test_a_step_written_by_hand_can_be_calibrated(self):
        table = self.path("two.costs.textproto")
        self.call("calibrate", "two_layer", "--steps", "5", "--out", table)
        self.assertGreater(self.call("simulate", "two_layer", *sets(costs=table)).json["step_seconds"], 0)

    def test_a_double_cost_in_the_table_doubles_the_prediction(self):
        table = self.path("costs.textproto")
        self.call("calibrate", "vit_tiny", "--steps", "3", "--out", table, *sets(parallel__data=1))
        before = self.call("simulate", "vit_tiny", *sets(parallel__data=1, costs=table)).json["step_seconds"]
        with open(table, encoding="utf-8") as file:
            text = file.read()
        self.write("costs.textproto", re.sub(r"(seconds|seconds_per_step): ([0-9.e+-]+)",
                                             lambda m: f"{m[1]}: {2 * float(m[2])!r}", text))
        after = self.call("simulate", "vit_tiny", *sets(parallel__data=1, costs=table)).json["step_seconds"]
        self.assertAlmostEqual(after, 2 * before, delta=1e-9)

    def test_tables_that_cannot_be_used_are_refused_with_the_place(self):
        missing = call("simulate", "digits_vit", "--json", *sets(costs="no/such.textproto"))
        self.assertEqual(missing.code, 2)
        self.assertIn("no/such.textproto", missing.json["error"]["findings"][0]["message"])
        self.assertIn("millrace calibrate", missing.json["error"]["findings"][0]["suggestion"])
        bad = self.write("bad.textproto", 'node { op: "forward" secnds: 1 }\nop { op: "adamw" factor: -1 }\n')
        result = call("simulate", "digits_vit", "--json", *sets(costs=bad))
        self.assertEqual(result.code, 2)
        findings = result.json["error"]["findings"]
        self.assertEqual({(f["file"], f["line"]) for f in findings}, {(bad, 1), (bad, 2)})

    def test_what_calibrate_cannot_do_it_says(self):
        for words, said in ((["--steps", "1"], "--steps=1"), (sets(runtime__executor="REFERENCE"), "FLOW_GRAPH")):
            result = call("calibrate", "digits_vit", "--json", "--out", self.path("t"), *words)
            self.assertEqual(result.code, 2)
            self.assertIn(said, result.json["error"]["message"])
            self.assertFalse(os.path.exists(self.path("t")))


class WhatIfTest(MillraceTest):
    def ask(self, pipeline, *words):
        return self.call("simulate", pipeline, *words).json

    def test_a_slower_link_a_slower_rank_and_a_faster_device_show_in_the_step(self):
        # 64 devices over hosts: communication decides.
        far = sets(parallel__data=64)
        now = self.ask("vit_huge", *far)["step_seconds"]
        slow = self.ask("vit_huge", *far, "--what_if", "link.inter_node=0.5x")["what_if"]
        self.assertGreater(slow["step_seconds"], 1.5 * now)
        self.assertLessEqual(slow["step_seconds_replanned"], slow["step_seconds"] * 1.001)
        near = self.ask("vit_huge")["step_seconds"]
        late = self.ask("vit_huge", "--what_if", "rank.3=1.5x")["what_if"]["step_seconds"]
        self.assertGreater(late, 1.4 * near)
        fast = self.ask("vit_huge", "--what_if", "device.flops=2x,device.memory_bandwidth=2x")["what_if"]
        self.assertLess(fast["step_seconds"], 0.7 * near)
        two = self.ask("vit_huge", "--what_if", "device.flops=2x", "--what_if", "device.memory_bandwidth=2x")["what_if"]
        self.assertEqual(two["step_seconds"], fast["step_seconds"])

    def test_what_the_machine_has_not_or_the_plan_does_not_use_is_an_error(self):
        for words, said in (("link.inter_nod=2x", "link.inter_node"), ("rank.8=2x", "rank.8"),
                            ("device.flops=quick", "device.flops=quick"),
                            ("link.inter_node=0.5x", "changes nothing in this plan"),
                            ("storage.drives=2x", "storage.drives")):
            result = call("simulate", "vit_huge", "--json", "--what_if", words)
            self.assertEqual(result.code, 2, words)
            self.assertIn(said, result.err, words)


if __name__ == "__main__":
    unittest.main()
