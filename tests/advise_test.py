#!/usr/bin/env python3
"""`millrace advise`: what it recommends is what `plan` then finds, in bytes; the formula of compatible mode; and every
choice that was not made has its sentence.
"""

import os
import shlex
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import unittest  # noqa: E402

from millrace_cli import MillraceTest, call, sets  # noqa: E402

# 19 M parameters, the size of RAT's optimized preset.
VIT_19M = sets(model__arg__image_size=128, model__arg__patch_size=8, model__arg__hidden_size=512, model__arg__layers=6,
               model__arg__heads=8, model__arg__num_labels=10)


class AdviseTest(MillraceTest):
    def advise(self, pipeline, *words):
        advice = self.call("advise", pipeline, *words).json
        self.assertEqual(advice["mode"], "exact")
        for choice in advice["choices"]:
            self.assertTrue(choice["why"], choice)
            self.assertEqual(choice["states_bytes"] + choice["transient_bytes"], choice["peak_bytes"])
            self.assertLessEqual(choice["fits"], choice["peak_bytes"] <= advice["memory_bytes"])
        return advice

    def choice(self, advice, stage, recompute):
        return next(c for c in advice["choices"] if (c["stage"], c["recompute"]) == (stage, recompute))

    def check_command(self, advice):
        """The recommended command plans to the promised peak."""
        self.assertEqual(advice["command_refused"], "")
        plan = self.call(*shlex.split(advice["command"])[1:]).json
        self.assertEqual(plan["peak_bytes"]["device"], advice["choices"][advice["fastest"]]["peak_bytes"])

    def test_19_million_fit_anywhere_and_recompute_is_not_worth_it(self):
        advice = self.advise("vit_tiny", *VIT_19M, "--devices", "8", "--memory", "80GB")
        self.assertAlmostEqual(advice["parameters"] / 19e6, 1, delta=0.02)
        self.assertEqual(advice["first"], 0)
        self.assertEqual(advice["choices"][advice["fastest"]]["recompute"], "none")
        self.assertIn("stages' forward again", self.choice(advice, 3, "all")["why"])
        self.check_command(advice)

    def test_vit_huge_with_large_batches_needs_recompute_not_zero_3(self):
        advice = self.advise("vit_huge", "--devices", "8", "--memory", "80GB", *sets(train__micro_batch=256))
        self.assertEqual(advice["parameters"], 630894181)
        plain = self.choice(advice, 0, "none")
        self.assertFalse(plain["fits"])
        self.assertRegex(plain["why"], r"states are 10\.09 GB, activations and buffers 174\.\d+ GB: "
                                       r"recompute \(.* GB\) helps, ZeRO-3 \(.* GB\) does not")
        self.assertEqual(advice["choices"][advice["fastest"]]["recompute"], "auto")
        self.check_command(advice)

    def test_ten_billion_need_sharding(self):
        advice = self.advise("vit_10b", "--devices", "8", "--memory", "80GB")
        self.assertAlmostEqual(advice["parameters"] / 10e9, 1, delta=0.02)
        self.assertEqual(advice["choices"][advice["fastest"]]["stage"], 3)
        self.assertGreater(advice["first"], 7)  # nothing of stages 0 and 1 fits
        self.check_command(advice)

    def test_bytes_are_those_that_are_measured(self):
        """On the CPU: the peak of every stage with and without recompute is what a run then takes."""
        advice = self.advise("digits_vit", "--devices", "2", "--memory", "64MiB")
        for stage in range(4):
            for recompute, way in (("none", {}), ("every 2nd", {"memory__recompute__every": 2}),
                                   ("all", {"memory__recompute__all": "true"})):
                run = self.train("digits_vit", parallel__zero__stage=stage, train__steps=2, checkpoint__save="false",
                                 data__eval_count=10, train__eval_batch=5, **way).json
                self.assertEqual(run["peak_bytes_measured"]["device"], self.choice(advice, stage, recompute)["peak_bytes"])

    def test_when_nothing_fits_it_says_what_is_missing_and_what_would_fit(self):
        advice = self.advise("vit_huge", "--memory", "2GB", *sets(train__micro_batch=32))
        self.assertIsNone(advice["fastest"])
        self.assertIn("train.micro_batch=", advice["help"])
        self.assertEqual(advice["compatible"]["stage"], 3)
        less = self.advise("vit_huge", "--memory", "1GB", "--host_memory", "64GiB", "--storage", "1.5TB")
        self.assertIn("no batch size helps", less["help"])
        self.assertEqual(less["compatible"]["offload"], "cpu")
        self.assertTrue(less["offload_planned"])
        self.assertEqual(less["command_refused"], "")
        plan = self.call(*shlex.split(less["command"])[1:]).json
        self.assertLessEqual(plan["peak_bytes"]["device"], 10**9)
        self.assertLessEqual(plan["peak_bytes"]["host"], 64 << 30)

    def test_compatible_mode_is_the_formula(self):
        parameters = 630894181
        for devices, memory, stage in ((8, 80, 0), (8, 8, 1), (8, 4, 2), (8, 3, 3), (8, 1, 3)):
            advice = self.call("advise", "vit_huge", "--compatible", "--devices", str(devices), "--memory", f"{memory}GB").json
            per = [2 + 2 + 12, 2 + 2 + 12 / devices, 2 + (2 + 12) / devices, 16 / devices]
            self.assertEqual(advice["bytes_per_device"], [p * parameters for p in per])
            self.assertEqual(advice["stage"], stage, memory)
            below = [p * parameters < 0.7 * memory * 1e9 for p in per]
            self.assertEqual(advice["below_limit"], below)
            self.assertEqual(advice["offload"] == "none", any(below))

    def test_all_mistakes_of_the_flags_are_said_at_once(self):
        result = self.call("advise", "vit_huge", "--devices", "0", "--memory", "80GBs", "--storage", "-1TB", code=2)
        said = [f["message"] for f in result.json["error"]["findings"]]
        self.assertEqual(len(said), 3, str(result))
        for flag in ("--devices=0", "--memory=80GBs", "--storage=-1TB"):
            self.assertTrue(any(flag in message for message in said), flag)
        self.call("advise", "digits_vit", code=2)  # a machine without a budget, and none given
        self.call("advise", "two_layer", "--memory", "1GB", code=2)  # written by hand
        self.assertEqual(call("plan", "digits_vit", "--memory", "1GB").code, 2)


if __name__ == "__main__":
    unittest.main()
