#!/usr/bin/env python3
"""Recomputing a stage decides what is kept until backward, never what is computed: the same weights to the last bit, and
memory as planned, to the byte.
"""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import unittest  # noqa: E402

from millrace_cli import DigitsTest  # noqa: E402


class RecomputeTest(DigitsTest):
    def test_weights_do_not_depend_on_what_is_recomputed(self):
        recompute = "memory__recompute__"
        ways = ({}, {recompute + "all": "true"}, {recompute + "every": 2}, {recompute + "stage": "[embeddings, layers.2]"})
        for accumulation, micro_batch in ((1, 10), (2, 5)):
            batch = {"train__accumulation": accumulation, "train__micro_batch": micro_batch, "steps": 4}
            for world in (1, 2):
                with self.subTest(accumulation=accumulation, world=world):
                    self.weights_of(*[{"stage": stage, "parallel__data": world, **batch, **way}
                                      for stage in range(4) for way in ways])

    def test_recompute_runs_with_every_executor_and_without_overlap(self):
        every = {"stage": 3, "memory__recompute__every": 2, "steps": 4}
        self.weights_of({"stage": 3, "steps": 4}, every, {**every, "runtime__overlap": "false"},
                        {**every, "runtime__executor": "REFERENCE"})

    def test_recomputing_saves_memory_and_the_choice_meets_its_budget(self):
        plain = self.run_once(steps=2)["peak_bytes_measured"]["device"]
        full = self.run_once(steps=2, memory__recompute__all="true")["peak_bytes_measured"]["device"]
        self.assertLess(full, plain)
        budget = (plain + full) // 2
        auto = self.run_once(steps=2, memory__recompute__auto="true", memory__device_budget_bytes=budget)
        self.assertLessEqual(auto["peak_bytes_measured"]["device"], budget)
        self.assertGreater(auto["peak_bytes_measured"]["device"], full)


if __name__ == "__main__":
    unittest.main()
