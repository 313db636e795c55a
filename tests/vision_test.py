#!/usr/bin/env python3
"""Masks and boxes end to end, on generated pictures in the real layouts: the same weights at every ZeRO stage, with
recompute, offload and dropout; memory as planned; shapes of all kinds; bad files named.
"""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import unittest  # noqa: E402

from millrace_cli import MillraceTest  # noqa: E402

SMALL = {"train__steps": 3, "train__micro_batch": 2, "train__eval_every": 0, "train__eval_batch": 2,
         "lr_schedule__warmup_steps": 2, "runtime__trace_steps": 0, "checkpoint__save": "false"}


class VisionTest(MillraceTest):
    def isic(self, train=12, val=4):
        self.call("data", "make", "--format", "isic", "--out", self.path("isic"), "--train", str(train), "--val", str(val),
                  "--test", "1", "--min_side", "40", "--max_side", "90")
        return {**SMALL, "data__folder": self.path("isic")}

    def coco(self):
        self.call("data", "make", "--format", "coco", "--out", self.path("coco"), "--classes", "10", "--train", "16",
                  "--val", "4", "--min_side", "48", "--max_side", "96")
        return {**SMALL, "data__folder": self.path("coco")}

    def run_once(self, pipeline, settings, **more):
        r = self.train(pipeline, "--losses", **{**settings, **more}).json
        self.assertEqual(r["peak_bytes_measured"], r["peak_bytes_predicted"], more)
        self.assertEqual(r["unplanned_allocations"], 0, more)
        self.assertTrue(all(0 < x < 100 for x in r["losses"]), r["losses"])
        return r

    def same_weights(self, pipeline, settings, *runs):
        hashes = {str(run): self.run_once(pipeline, settings, **run)["weights_sha256"] for run in runs}
        self.assertEqual(len(set(hashes.values())), 1, hashes)

    STAGES = [{"parallel__zero__stage": s} for s in range(4)]
    OTHERS = [{"memory__recompute__all": "true", "parallel__zero__stage": 3},
              {"memory__offload__optimizer__tier": "HOST", "memory__offload__parameters__tier": "HOST",
               "parallel__zero__stage": 3},
              {"runtime__executor": "REFERENCE", "parallel__zero__reduce_bucket_bytes": 100000}]

    def test_a_segmenting_transformer_has_the_same_weights_at_every_stage(self):
        self.same_weights("isic_small", self.isic(), *self.STAGES, *self.OTHERS)

    def test_a_unet_and_its_running_statistics_have_the_same_bits_at_every_stage(self):
        small = {"model__arg[0]__i": 33, "train__micro_batch": 1, "train__steps": 2, "data__eval_split": "test"}
        self.same_weights("unet_baseline", {**self.isic(), **small}, *self.STAGES, self.OTHERS[0])

    def test_a_detector_has_the_same_weights_at_every_stage(self):
        self.same_weights("coco_small", self.coco(), *self.STAGES, *self.OTHERS)

    def test_dropout_is_the_same_whatever_the_schedule_and_gone_in_evaluation(self):
        self.isic()
        text = self.write("drop.textproto", """
            model { name: "rat" arg { name: "image_size" s: "24x36,12x18" } arg { name: "dims" i: 16 }
                    arg { name: "blocks" i: 1 } arg { name: "heads" i: 2 } arg { name: "dropout" f: 0.3 } }
            data { format: ISIC folder: "isic" eval_split: "val" }
            parallel { data: 2 }
            train { steps: 2 micro_batch: 2 } checkpoint { save: false }""")
        settings = {"train__steps": 2, "data__folder": self.path("isic")}
        self.same_weights(text, settings, *self.STAGES, {"memory__recompute__all": "true"})
        with_dropout = self.run_once(text, settings)
        without = self.run_once(text, settings, **{"model__arg[4]__f": 0})
        self.assertNotEqual(with_dropout["weights_sha256"], without["weights_sha256"])

    def test_three_scales_odd_sizes_and_a_single_picture_work_in_16_bits_too(self):
        text = self.write("scales.textproto", """
            model { name: "rat" arg { name: "image_size" s: "31x45,17x22,9x9" } arg { name: "dims" i: 16 }
                    arg { name: "blocks" i: 4 } arg { name: "heads" i: 4 } arg { name: "attention" s: "sparse,dense" } }
            data { format: ISIC folder: "isic" eval_split: "val" }
            train { steps: 2 micro_batch: 1 } checkpoint { save: false }""")
        self.isic()
        for mode in ("F32", "BF16"):
            r = self.run_once(text, {"data__folder": self.path("isic")}, precision__mode=mode)
            self.assertGreater(r["metrics"]["samples"], 0)

    def test_bad_files_are_named_or_skipped_and_all_reported(self):
        settings = self.isic(train=20)
        pictures = sorted(os.listdir(self.path("isic", "images")))
        bad = [self.path("isic", "images", name) for name in pictures[:3]]
        with open(bad[0], "r+b") as file:
            file.truncate(300)
        open(bad[1], "wb").close()
        with open(bad[2], "wb") as file:
            file.write(b"no picture")
        settings.update(train__steps=0, train__epochs=1)
        failed = self.train("isic_small", code=3, **settings)
        self.assertTrue(any(name in str(failed) for name in bad), str(failed))
        r = self.run_once("isic_small", settings, data__on_error="SKIP")
        self.assertEqual(r["steps"], 5)
        for name in bad:
            self.assertIn(name, str(r["bad_files"]))


if __name__ == "__main__":
    unittest.main()
