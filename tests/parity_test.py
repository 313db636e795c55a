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

from millrace_cli import DigitsTest, MillraceTest, sets  # noqa: E402


class ParityTest(DigitsTest):
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
