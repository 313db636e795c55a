#!/usr/bin/env python3
"""Where optimizer states and parameters lie between their uses - device, host, storage - decides what is copied, never what
is computed: the same weights to the last bit, and memory as planned in every tier, to the byte. The delayed update is the
one exception, and says so in its certificate.
"""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import unittest  # noqa: E402

from millrace_cli import DigitsTest, sets  # noqa: E402

# The settings of each precision mode in which all this holds; {} is f32. Not each test needs each mode. (A delayed update
# and a loss scale that moves exclude each other.)
PRECISIONS = ({}, {"precision__mode": "BF16"}, {"precision__mode": "F16"})

# Blocks of a size that is given need no probe of the drive.
RING = {"memory__offload__storage__block_bytes": 65536, "memory__offload__storage__queue_depth": 4}


def offload(optimizer, parameters="NONE", **more):
    """Settings that keep the optimizer's states, and perhaps the parameters, in these tiers."""
    settings = {"memory__offload__optimizer__tier": optimizer, **more}
    if parameters != "NONE":
        settings.update(memory__offload__parameters__tier=parameters)
    return {**settings, **RING} if "STORAGE" in (optimizer, parameters) else settings


def ratio(share):
    return {"memory__offload__optimizer__ratio": share}


DELAYED = {"memory__offload__optimizer__delayed": "true"}
EVERYTHING = (offload("HOST", "HOST"), offload("STORAGE", "HOST"), offload("STORAGE", "STORAGE"))  # at stage 3


class OffloadTest(DigitsTest):
    def run_once(self, **settings):
        settings = {"steps": 3, "train__eval_every": 0, "data__eval_count": 20, "train__eval_batch": 10, **settings}
        r = super().run_once(**settings)
        for tier, field in (("HOST", "host"), ("STORAGE", "storage")):
            used = tier in (settings.get("memory__offload__optimizer__tier"), settings.get("memory__offload__parameters__tier"))
            if used:
                self.assertGreater(r["peak_bytes_measured"][field], 0, settings)
        return r

    def test_weights_do_not_depend_on_tier_stage_or_ratio(self):
        for precision in PRECISIONS:
            for world in (1, 2):
                with self.subTest(world=world):
                    common = {"parallel__data": world, **precision}
                    ways = [{"stage": 0}]
                    for stage in range(4):
                        ways += [{"stage": stage, **way} for way in (offload("HOST"), offload("STORAGE", **ratio(0.6)))]
                    ways += [{"stage": 3, **way} for way in EVERYTHING]
                    self.weights_of(*[{**common, **way} for way in ways])

    def test_neither_executor_nor_overlap_nor_the_window_changes_a_bit(self):
        for precision in PRECISIONS[:2]:
            ways = []
            for way in (offload("STORAGE", **ratio(0.3)), *EVERYTHING[1:]):
                ways += [{**way, "runtime__overlap": "false"}, {**way, "runtime__executor": "REFERENCE"}]
            one_at_a_time = {**EVERYTHING[2], "memory__offload__staging_buckets": 1}
            threads = {**EVERYTHING[2], "memory__offload__storage__engine": "THREADS"}
            unsummed = {**EVERYTHING[2], "memory__offload__storage__checksum": "false"}
            self.weights_of(*[{"stage": 3, **precision, **way} for way in ({}, *ways, one_at_a_time, threads, unsummed)])

    def test_it_goes_with_accumulation_under_each_policy_and_with_recompute(self):
        for precision in PRECISIONS[:1]:
            batch = {"train__accumulation": 2, "train__micro_batch": 5, **precision}
            recompute = {"stage": 3, **EVERYTHING[2], "memory__recompute__all": "true"}
            host, storage = {"stage": 1, **offload("HOST")}, {"stage": 2, **offload("STORAGE")}
            # Policies add up in different orders, so each has its own weights.
            for policy, ways in (("REDUCE_EACH", (host, storage, recompute)), ("REDUCE_LAST", (host, recompute)),
                                 ("KEEP_GATHERED", ({"stage": 3, **EVERYTHING[2]}, recompute))):
                each = {"parallel__zero__accumulation": policy, **batch}
                self.weights_of(*[{**each, **way} for way in ({"stage": 3}, *ways)])

    def test_it_goes_with_each_optimizer_clipped_or_not(self):
        for precision in PRECISIONS[:1]:
            hashes = set()
            for optimizer in ({"optimizer__clip_norm": 0}, {"optimizer__clip_norm": 0.1},
                              {"optimizer__kind": "SGD", "optimizer__momentum": 0.9},
                              {"optimizer__kind": "SGD", "optimizer__momentum": 0, "optimizer__clip_norm": 0},
                              {"optimizer__kind": "ADAM"}):
                ways = ({"stage": 2}, {"stage": 2, **offload("HOST", **ratio(0.5))}, {"stage": 3, **EVERYTHING[2]})
                hashes.add(self.weights_of(*[{**optimizer, **precision, **way} for way in ways]))
            self.assertEqual(len(hashes), 5, "each of them trains in its own way")

    def test_less_lies_on_the_device_the_more_is_moved(self):
        plain = {"stage": 3, "steps": 1}
        peaks = [self.run_once(**plain, **way)["peak_bytes_measured"]["device"]
                 for way in ({}, offload("HOST", **ratio(0.5)), offload("HOST"), offload("HOST", "HOST"))]
        self.assertEqual(peaks, sorted(peaks, reverse=True))
        self.assertEqual(len(set(peaks)), 4, peaks)

    def test_a_delayed_update_trains_otherwise_but_everywhere_the_same(self):
        for precision in PRECISIONS[:2]:
            common = {"stage": 2, "steps": 5, **precision}
            delayed = [{**common, **way, **DELAYED} for way in
                       (offload("HOST"), offload("STORAGE"), {**offload("HOST"), "runtime__overlap": "false"},
                        {**offload("STORAGE"), "runtime__executor": "REFERENCE"})]
            delayed += [{**common, "stage": 3, **EVERYTHING[2], **DELAYED}]
            self.assertNotEqual(self.weights_of(*delayed), self.weights_of({**common, **offload("HOST")}))

    def test_the_certificate_states_the_delay(self):
        def provenance(*words):
            checks = self.call("verify", "digits_vit", *words).json["checks"]
            return next(check["facts"] for check in checks if check["name"] == "provenance")

        for tier in ("HOST", "STORAGE"):
            self.assertIn("gradients of delay 1", provenance(*sets(**offload(tier), **DELAYED)))
            self.assertIn("gradients of delay 0", provenance(*sets(**offload(tier))))


class OffloadResumeTest(OffloadTest):
    """Six steps at once, and as three and three with a checkpoint between."""

    COMMON = {"lr_schedule__warmup_steps": 2, "lr_schedule__total_steps": 6, "train__micro_batch": 10, "data__eval_count": 20,
              "train__eval_batch": 10, "runtime__trace_steps": 0, "parallel__zero__stage": 3}

    def go(self, folder, steps, *words, **settings):
        folder = f"{settings.get('precision__mode', 'F32')}_{folder}"
        return self.train("digits_vit", *words, folder=folder, train__steps=steps, **self.COMMON, **settings).json

    def halves(self, folder, first, second):
        self.go(folder, 3, **first)
        resumed = self.go(folder, 6, "--resume", **second)
        self.assertEqual(resumed["steps"], 3)
        return resumed["weights_sha256"]

    def test_a_resumed_run_equals_an_uninterrupted_one_also_where_the_states_move(self):
        for precision in PRECISIONS:
            ways = {"device": precision, "host": {**precision, **EVERYTHING[0]}, "storage": {**precision, **EVERYTHING[2]}}
            whole = self.go("whole", 6, **ways["storage"])["weights_sha256"]
            for first, second in (("storage", "storage"), ("device", "storage"), ("storage", "device"), ("host", "storage")):
                with self.subTest(first=first, second=second):
                    self.assertEqual(self.halves(f"{first}_{second}", ways[first], ways[second]), whole)
            self.assertEqual(self.go("plain", 6, **ways["device"])["weights_sha256"], whole)

    def test_a_delayed_run_resumes_with_the_gradients_that_wait(self):
        for precision in PRECISIONS[:2]:
            ways = [{**precision, **DELAYED, **way} for way in (EVERYTHING[0], EVERYTHING[2])]
            whole = self.go("whole", 6, **ways[0])["weights_sha256"]
            self.assertEqual(self.halves("same", ways[1], ways[1]), whole)
            self.assertEqual(self.halves("other", ways[0], ways[1]), whole)


# What OffloadResumeTest takes from OffloadTest are its helpers.
for name in [name for name in dir(OffloadTest) if name.startswith("test_")]:
    setattr(OffloadResumeTest, name, None)

if __name__ == "__main__":
    unittest.main()
