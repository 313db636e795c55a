#!/usr/bin/env python3
"""Trained weights evaluated without training: the figures of the run that made them, tables, pictures, and mistakes
before anything starts."""

import csv
import json
import struct
import unittest
import xml.etree.ElementTree

from millrace_cli import MillraceTest, call, sets

# Learns something in a moment.
RUN = {"train__steps": 30, "lr_schedule__warmup_steps": 5, "runtime__trace_steps": 0}


def tensors_of(path):
    with open(path, "rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        return json.loads(file.read(length)), file.read()


class EvaluateTest(MillraceTest):
    def trained(self, folder="run", **settings):
        return self.train("digits_vit", folder=folder, **{**RUN, **settings}).json

    def evaluate(self, *words, code=0):
        return self.call("evaluate", *words, code=code)

    def test_the_figures_are_those_of_the_run_whatever_names_its_weights(self):
        run = self.trained()
        step = run["outputs"]["checkpoint"]
        for weights in (self.path("run"), self.path("run", "checkpoints"), step, step + "/model.safetensors"):
            [row] = self.evaluate("digits_vit", "--checkpoint", weights).json["rows"]
            for name in ("loss", "top1", "top5", "samples"):
                self.assertEqual(row[name], run["metrics"][name], weights)

    def test_neither_ranks_nor_stages_nor_precision_of_the_file_matter(self):
        run = self.trained()
        for settings in ({"parallel__data": 1}, {"parallel__zero__stage": 3}, {"train__eval_batch": 50}, {"runtime__executor": "REFERENCE"}):
            [row] = self.evaluate("digits_vit", "--checkpoint", self.path("run"), *sets(**settings)).json["rows"]
            self.assertEqual(row["top1"], run["metrics"]["top1"], settings)
            self.assertAlmostEqual(row["loss"], run["metrics"]["loss"], places=5)
        [row] = self.evaluate("digits_vit", "--checkpoint", self.path("run"), *sets(precision__mode="BF16")).json["rows"]
        self.assertAlmostEqual(row["top1"], run["metrics"]["top1"], delta=0.02)

    def test_evaluation_keeps_no_optimizer_in_memory(self):
        run = self.trained(parallel__data=1)
        [row] = self.evaluate("digits_vit", "--checkpoint", self.path("run"), *sets(parallel__data=1)).json["rows"]
        self.assertLess(row["device_bytes"], run["peak_bytes_measured"]["device"] - 8 * row["parameters"])

    def test_variants_stand_in_one_table_one_csv_and_one_picture(self):
        self.trained("first")
        self.trained("second", optimizer__lr=1e-5)
        result = self.evaluate(
            "digits_vit", "--checkpoint", self.path("first"), "--variant", f"slow=digits_vit_zero3@{self.path('second')}",
            "--csv", self.path("t.csv"), "--svg", self.path("t.svg"))
        rows = result.json["rows"]
        self.assertEqual([r["variant"] for r in rows], ["digits_vit", "slow"])
        self.assertGreater(rows[0]["top1"], rows[1]["top1"])
        table = result.out.splitlines()
        self.assertEqual(table[0].split()[:5], ["variant", "size", "parameters", "samples", "loss"])
        self.assertEqual(table[2].split()[:2], ["slow", "8"])
        with open(self.path("t.csv"), newline="", encoding="utf-8") as file:
            written = list(csv.DictReader(file))
        self.assertEqual([float(r["top1"]) for r in written], [r["top1"] for r in rows])
        self.assertEqual(result.json["outputs"]["csv"], self.path("t.csv"))
        texts = [t.text for t in xml.etree.ElementTree.parse(self.path("t.svg")).iter("{http://www.w3.org/2000/svg}text")]
        self.assertIn("slow", texts)
        self.assertIn(f"{rows[0]['top1']:.4f}", texts)

    def test_image_sizes_are_set_in_the_model_and_the_data(self):
        run = self.trained()
        rows = self.evaluate("digits_vit", "--checkpoint", self.path("run"), "--image_sizes", "8").json["rows"]
        self.assertEqual([(r["height"], r["width"]) for r in rows], [(8, 8)])
        self.assertEqual(rows[0]["top1"], run["metrics"]["top1"])

    def test_weights_that_do_not_fit_are_named_with_their_shapes_for_every_variant_at_once(self):
        self.trained()
        result = self.evaluate(
            "digits_vit", "--checkpoint", self.path("run"), "--image_sizes", "8,16", "--variant", f"wide=vit_tiny@{self.path('run')}", code=2)
        messages = "\n".join(f["message"] for f in result.json["error"]["findings"])
        self.assertIn("digits_vit at 16: tensor 'vit.embeddings.position_embeddings' is f32 [1, 17, 64], the model has f32 [1, 65, 64]", messages)
        self.assertIn("wide at 8: ", messages)
        self.assertNotIn("digits_vit at 8: ", messages)
        self.assertNotIn("samples", result.out.splitlines()[0])

    def test_a_missing_tensor_is_named(self):
        run = self.trained()
        header, body = tensors_of(run["outputs"]["checkpoint"] + "/model.safetensors")
        header["classifier.weights"] = header.pop("classifier.weight")
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        weights = self.write("renamed.safetensors", struct.pack("<Q", len(text)) + text + body)
        [finding] = self.evaluate("digits_vit", "--checkpoint", weights, code=2).json["error"]["findings"]
        self.assertEqual(finding["message"], "digits_vit: tensor 'classifier.weight' is missing")
        self.assertIn("classifier.weights", finding["suggestion"])

    def test_all_mistakes_of_the_command_line_are_said_at_once(self):
        findings = self.evaluate(
            "digits_vit", "--checkpoint", self.path("nowhere"), "--image_sizes", "8,x,8", "--variant", "oops", "--metric", "dice",
            "--variant", "digits_vit=two_layer@" + self.path("nowhere"), code=2).json["error"]["findings"]
        messages = "\n".join(f["message"] for f in findings)
        for part in ("'x' is not a size", "8 stands there twice", "--variant oops: expected", "two variants are called 'digits_vit'",
                     "nowhere: no such file or folder", "a step written by hand has no evaluation", "--metric dice is not known",
                     "there is no --svg"):
            self.assertIn(part, messages)
        for words, part in (([], "needs a pipeline"), (["--checkpoint", "x"], "none is"), (["a", "b"], "takes one pipeline, got 2"),
                            (["digits_vit", "--checkpoint", self.write("torn.safetensors", b"\1"), ], "torn.safetensors")):
            messages = "\n".join(f["message"] for f in self.evaluate(*words, code=2).json["error"]["findings"])
            self.assertIn(part, messages)

    def test_a_pipeline_without_test_data_says_so(self):
        self.trained()
        result = self.evaluate("digits_vit", "--checkpoint", self.path("run"), *sets(data__eval_first=0), code=2)
        self.assertIn("names no evaluation data", result.json["error"]["message"])

    def test_the_flags_belong_to_evaluate(self):
        self.assertEqual(call("plan", "digits_vit", "--image_sizes", "8").code, 2)


if __name__ == "__main__":
    unittest.main()
