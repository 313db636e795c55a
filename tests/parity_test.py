#!/usr/bin/env python3
"""Sharding, buckets, prefetching, overlap and the executor decide where bytes lie and when they move, never what is
computed: the same weights to the last bit. And memory is what the plan says: measured = predicted to the byte.

A wrong order of a sum, a race or a tensor allocated behind the plan's back shows here first.
"""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import unittest  # noqa: E402

from millrace_cli import MillraceTest, sets  # noqa: E402

# A short warm-up: after 20 steps the weights are far from where they began.
LEARN = {"lr_schedule__warmup_steps": 5, "train__micro_batch": 25, "runtime__trace_steps": 0, "checkpoint__save": "false"}


class ParityTest(MillraceTest):
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

    def test_weights_do_not_depend_on_stage_bucket_prefetch_overlap_or_executor(self):
        bucket, depth = "parallel__zero__reduce_bucket_bytes", "parallel__zero__prefetch_depth"
        weights = self.weights_of(
            *[{"stage": s} for s in range(4)],
            {"stage": 0, bucket: 50000},
            {"stage": 2, bucket: 50000},
            {"stage": 3, bucket: 100000000},
            *[{"stage": 3, depth: d} for d in (0, 1, 3)],
            *[{"stage": s, "runtime__overlap": "false"} for s in (0, 2, 3)],
            *[{"stage": s, "runtime__executor": "REFERENCE"} for s in (2, 3)],
        )
        self.assertNotEqual(weights, self.run_once(train__seed=2)["weights_sha256"])
        self.assertNotEqual(weights, self.run_once(steps=19)["weights_sha256"])

    def test_weights_of_accumulated_steps_depend_on_the_policy_not_on_the_stage(self):
        policy, five = "parallel__zero__accumulation", {"train__micro_batch": 5, "train__accumulation": 5, "steps": 6}
        self.weights_of(*[{"stage": s, policy: "REDUCE_EACH", **five} for s in range(4)])
        self.weights_of(*[{"stage": s, policy: "REDUCE_LAST", **five} for s in range(4)],
                        {"stage": 3, policy: "KEEP_GATHERED", **five})

    def test_weights_of_four_ranks_do_not_depend_on_the_stage(self):
        self.weights_of(*[{"stage": s, "parallel__data": 4, "train__micro_batch": 5, "steps": 6} for s in range(4)])

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
        auto = self.run_once(steps=2, memory__recompute__auto="true", memory__recompute__budget_bytes=budget)
        self.assertLessEqual(auto["peak_bytes_measured"]["device"], budget)
        self.assertGreater(auto["peak_bytes_measured"]["device"], full)

    def test_one_and_two_ranks_agree_in_loss_on_the_same_global_batch(self):
        one = self.run_once(stage=0, parallel__data=1, train__micro_batch=50)["losses"]
        two = self.run_once(stage=2, parallel__data=2, train__micro_batch=25)["losses"]
        self.assertEqual(len(one), 20)
        for step, (a, b) in enumerate(zip(one, two), start=1):
            self.assertAlmostEqual(a / b, 1, delta=1e-5, msg=f"step {step}")

    def test_memory_is_as_planned_for_every_stage_world_size_and_accumulation(self):
        for world in (1, 2, 4):
            for stage in range(4):
                for accumulation in (1, 4):
                    with self.subTest(world=world, stage=stage, accumulation=accumulation):
                        self.run_once(steps=2, stage=stage, parallel__data=world, train__micro_batch=3,
                                      train__accumulation=accumulation, data__eval_count=40, train__eval_batch=10)


class PersistentBytesTest(MillraceTest):
    def test_state_is_4_4_8_bytes_per_parameter_sharded_as_the_stage_says(self):
        for pipeline in ("digits_vit", "vit_tiny"):
            for world in (1, 2, 4):
                for stage in range(4):
                    with self.subTest(pipeline=pipeline, world=world, stage=stage):
                        self.check(pipeline, world, stage)

    def check(self, pipeline, world, stage):
        plan = self.call("plan", pipeline, *sets(parallel__data=world, parallel__zero__stage=stage)).json
        numbers = plan["parameters"]
        # Every bucket is rounded up to a multiple of 16 elements per rank. A bucket is communicated at least once.
        buckets = max([c["count_per_step"] for c in plan["collectives"]], default=1)
        padding = buckets * 16 * world
        sharded_from = {"parameter": 3, "gradient": 2, "optimizer_state": 1}
        bytes_each = {"parameter": 4, "gradient": 4, "optimizer_state": 8}
        self.assertEqual(set(plan["persistent_bytes"]), set(bytes_each))
        for kind, first_stage in sharded_from.items():
            share = world if stage >= first_stage else 1
            got = plan["persistent_bytes"][kind]
            self.assertGreaterEqual(got, bytes_each[kind] * numbers / share, kind)
            self.assertLessEqual(got, bytes_each[kind] * (numbers + padding) / share, kind)


if __name__ == "__main__":
    unittest.main()
