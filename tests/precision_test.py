#!/usr/bin/env python3
"""bf16 and fp16 with f32 masters: sharding, overlap and recomputation still decide nothing about the weights, and memory is
as planned. And the loss scale: a step that overflows anywhere changes nothing anywhere, the scale follows its rule, and
who gives up says why.
"""

import json
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import unittest  # noqa: E402

from millrace_cli import LEARN, DigitsTest  # noqa: E402

MODES = ("BF16", "F16")
DYNAMIC = "precision__loss_scale__dynamic__"


class PrecisionTest(DigitsTest):
    def test_weights_do_not_depend_on_stage_overlap_executor_or_recompute(self):
        weights = set()
        for mode in MODES:
            for world in (1, 2):
                for reduce_dtype in ("F32", mode):
                    half = {"precision__mode": mode, "precision__reduce_dtype": reduce_dtype, "parallel__data": world,
                            "steps": 4}
                    with self.subTest(mode=mode, world=world, reduce_dtype=reduce_dtype):
                        stages = range(4) if world > 1 else (0,)  # with one rank all four are the same step
                        weights.add(self.weights_of(*[{"stage": s, **half} for s in stages],
                                                    {"stage": 3, "memory__recompute__all": "true", **half}))
            self.weights_of({"stage": 3, "precision__mode": mode, "steps": 4},
                            {"stage": 2, "precision__mode": mode, "steps": 4, "runtime__overlap": "false"},
                            {"stage": 3, "precision__mode": mode, "steps": 4, "runtime__executor": "REFERENCE"},
                            {"stage": 3, "precision__mode": mode, "steps": 4, "parallel__zero__reduce_bucket_bytes": 50000})
        # On one rank and in one micro-batch nothing is summed, but the gradient that the update reads is rounded anyway:
        # both ways of keeping it give the same. Else every setting is a training of its own.
        self.assertEqual(len(weights), 6)

    def test_weights_of_accumulated_steps_depend_on_the_policy_not_on_the_stage(self):
        for mode, reduce_dtype in (("BF16", "BF16"), ("F16", "F32")):
            for policy in ("REDUCE_EACH", "REDUCE_LAST"):
                with self.subTest(mode=mode, policy=policy):
                    self.weights_of(*[{"stage": s, "precision__mode": mode, "precision__reduce_dtype": reduce_dtype,
                                       "parallel__zero__accumulation": policy, "train__micro_batch": 5,
                                       "train__accumulation": 3, "steps": 3} for s in range(4)])

    def test_weights_of_four_ranks_do_not_depend_on_the_stage(self):
        four = {"parallel__data": 4, "train__micro_batch": 5, "steps": 3}
        self.weights_of(*[{"stage": s, "precision__mode": "F16", **four} for s in range(4)])

    def test_losses_stay_near_those_of_f32(self):
        exact = self.run_once()["losses"]
        for mode, delta in (("BF16", 0.02), ("F16", 0.004)):
            for reduce_dtype in ("F32", mode):
                losses = self.run_once(precision__mode=mode, precision__reduce_dtype=reduce_dtype)["losses"]
                self.assertNotEqual(losses, exact)
                for step, (a, b) in enumerate(zip(losses, exact), start=1):
                    self.assertAlmostEqual(a / b, 1, delta=delta, msg=f"{mode}, {reduce_dtype}, step {step}")

    def test_a_loss_that_is_not_finite_is_reported(self):
        result = self.train("digits_vit", **LEARN, train__steps=4, precision__mode="BF16", optimizer__lr=1e30).json
        self.assertIn(result["nonfinite_loss_step"], (2, 3, 4))
        self.assertNotIn("nonfinite_loss_step", self.run_once(steps=2, precision__mode="BF16"))


def scale_after(states, overflow, window, hysteresis, min_scale=1.0, consecutive=False):
    """The rule, written down a second time: (scale, hysteresis left, iteration, last overflow) -> the next."""
    scale, left, it, last = states
    if overflow:
        if hysteresis == 1 or left == 1:
            scale = max(scale / 2, min_scale)
        else:
            left -= 1
        last = it
    else:
        if consecutive:
            left = hysteresis
        if it - last - 1 > 0 and (it - last - 1) % window == 0:
            left, scale = hysteresis, scale * 2
    return scale, left, it + 1, last


class LossScaleTest(DigitsTest):
    def go(self, steps, folder, *words, code=0, **settings):
        settings = {**LEARN, "lr_schedule__total_steps": 100, "precision__mode": "F16", "train__steps": steps, **settings}
        return self.train("digits_vit", *words, folder=folder, code=code, **settings)

    def metrics(self, folder):
        with open(self.path(folder, "metrics.jsonl"), encoding="utf-8") as file:
            return [line for line in map(json.loads, file) if "loss" in line]

    def test_overflows_are_skipped_named_and_the_scale_comes_down_to_where_training_goes_on(self):
        result = self.go(60, "run", **{DYNAMIC + "initial_scale_power": 30, DYNAMIC + "hysteresis": 1}).json
        lines = self.metrics("run")
        skipped = [line.get("skipped", False) for line in lines]
        first_good = skipped.index(False)
        self.assertGreater(first_good, 2)
        self.assertEqual([line["loss_scale"] for line in lines[:first_good + 1]],
                         [2.0 ** (30 - k) for k in range(first_good + 1)])
        self.assertEqual(result["skipped_steps"], sum(skipped))
        for line in lines:
            self.assertEqual("overflow" in line, line.get("skipped", False), line)
            if "overflow" in line:
                self.assertIn(line["overflow"]["rank"], (0, 1))
                self.assertRegex(line["overflow"]["parameter"], r"^(vit|classifier)\..*\.?(weight|bias)$|cls|position")
                self.assertNotIsInstance(line["grad_norm"], float)  # "inf" or "nan"
        # The learning rate waits for the first step that counts; then it goes its way.
        self.go(60 - sum(skipped), "plain", **{DYNAMIC + "initial_scale_power": 10})
        self.assertEqual([line["lr"] for line in lines if not line.get("skipped")],
                         [line["lr"] for line in self.metrics("plain")])
        early, late = ([line["loss"] for line in part] for part in (lines[:10], lines[-10:]))
        self.assertLess(sum(late) / 10, sum(early) / 10 - 0.05)

    def test_a_skipped_step_changes_no_bit_at_any_stage(self):
        huge = {"precision__mode": "F16", DYNAMIC + "initial_scale_power": 60}
        weights = self.weights_of(*[{"stage": s, "steps": n, **huge} for s in range(4) for n in (1, 3)])
        self.assertNotEqual(weights, self.run_once(steps=3, precision__mode="F16", precision__loss_scale__static=64)["weights_sha256"])

    def test_the_scale_follows_its_rule(self):
        for name, settings in {
                "hysteresis": {"initial_scale_power": 26, "hysteresis": 3, "window": 4},
                "consecutive": {"initial_scale_power": 24, "hysteresis": 2, "window": 3, "consecutive_hysteresis": "true"},
                "grows": {"initial_scale_power": 2, "hysteresis": 2, "window": 1, "min_scale": 2}}.items():
            with self.subTest(name):
                self.go(45, name, **{DYNAMIC + key: value for key, value in settings.items()})
                state = (2.0 ** settings["initial_scale_power"], settings["hysteresis"], 0, -1)
                lines = self.metrics(name)
                for line in lines:
                    self.assertEqual(line["loss_scale"], state[0], line)
                    state = scale_after(state, line.get("skipped", False), settings["window"], settings["hysteresis"],
                                        settings.get("min_scale", 1.0), "consecutive_hysteresis" in settings)
                skipped = sum(line.get("skipped", False) for line in lines)
                self.assertGreater(skipped, 0)
                self.assertLess(skipped, 40)

    def test_weights_with_overflows_do_not_depend_on_the_stage(self):
        some = {"precision__mode": "F16", DYNAMIC + "initial_scale_power": 24, DYNAMIC + "window": 2, "steps": 14}
        for reduce_dtype in ("F32", "F16"):
            self.weights_of(*[{"stage": s, "precision__reduce_dtype": reduce_dtype, **some} for s in range(4)])

    def test_a_resumed_run_has_the_scale_and_the_masters_of_the_one_that_was_stopped(self):
        settings = {DYNAMIC + "initial_scale_power": 24, DYNAMIC + "window": 3, "checkpoint__save": "true"}
        whole = self.go(16, "whole", **settings).json
        self.go(7, "halves", **settings)
        resumed = self.go(16, "halves", "--resume", **settings).json
        self.assertEqual(resumed["weights_sha256"], whole["weights_sha256"])
        kept = [{k: v for k, v in line.items() if "second" not in k} for line in self.metrics("whole")]
        self.assertEqual(kept, [{k: v for k, v in line.items() if "second" not in k} for line in self.metrics("halves")])
        # Under another stage as well.
        self.go(7, "other", **settings)
        self.assertEqual(self.go(16, "other", "--resume", parallel__zero__stage=3, **settings).json["weights_sha256"],
                         whole["weights_sha256"])

    def test_weights_of_one_precision_start_a_run_in_another(self):
        saved = {"checkpoint__save": "true"}
        self.go(3, "f32", precision__mode="F32", **saved)
        model = self.path("f32", "checkpoints", "step-00000003", "model.safetensors")
        start = {"checkpoint__init_from": f'"{model}"'}
        near = [self.go(1, mode, precision__mode=mode, **start).json for mode in ("F32", *MODES)]
        losses = [self.metrics(mode)[0]["loss"] for mode in ("F32", *MODES)]
        self.assertEqual(len({r["weights_sha256"] for r in near}), 3)
        for loss in losses[1:]:
            self.assertAlmostEqual(loss / losses[0], 1, delta=0.01)
        refused = self.go(6, "f32", "--resume", precision__mode="BF16", code=2, **saved)
        self.assertIn("checkpoint.init_from", refused.err + refused.out)

    def test_after_so_many_overflows_at_the_smallest_scale_the_run_stops_with_advice(self):
        for way in ({"precision__loss_scale__static": 2.0 ** 60},
                    {DYNAMIC + "initial_scale_power": 60, DYNAMIC + "min_scale": 2.0 ** 60, DYNAMIC + "hysteresis": 1}):
            stopped = self.go(20, "run", code=3, precision__loss_scale__max_skips=3, **way)
            said = stopped.err + stopped.out
            for words in ("step 3: the gradient of classifier.", "on rank", "number 3 in a row", "precision.mode BF16"):
                self.assertIn(words, said)
            self.assertEqual(len(self.metrics("run")), 3)
        # The same with a scale that fits goes through.
        self.assertEqual(self.go(5, "fits", precision__loss_scale__static=1024).json["skipped_steps"], 0)


if __name__ == "__main__":
    unittest.main()
