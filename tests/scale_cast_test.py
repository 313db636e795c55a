#!/usr/bin/env python3
"""Gradients that are scaled, cast and brought back on their way to the update: run, and proved by the verifier."""

import unittest

from millrace_cli import MillraceTest


class ScaleCastTest(MillraceTest):

    def losses(self, *nodes, last="dw2_sum"):
        """Losses of two_layer, w2's gradient sent through `nodes` and arriving as `last`."""
        with open("pipelines/two_layer.textproto") as file:
            text = file.read()
        update = 'node { name: "update_w2" op: "sgd" input: "w2" input: "dw2_sum"'
        self.assertIn(update, text)
        text = text.replace(update, "\n  ".join([*nodes, update.replace("dw2_sum", last)]))
        return self.train(self.write("step.textproto", text), "--losses", train__steps=20).json["losses"]

    def test_scaling_by_a_power_of_two_and_back_changes_no_bit(self):
        scaled = self.losses(
            'node { name: "up" op: "scale" input: "dw2_sum" output: "up" attr { name: "factor" f: 1024 } }',
            'node { name: "down" op: "scale" input: "up" output: "down" attr { name: "factor" f: 0.0009765625 } }',
            last="down")
        self.assertEqual(scaled, self.losses())

    def test_half_precision_on_the_way_is_near_but_not_the_same(self):
        for half in ("bf16", "f16"):
            cast = self.losses(
                f'node {{ name: "to" op: "cast" input: "dw2_sum" output: "half" attr {{ name: "to" s: "{half}" }} }}',
                'node { name: "back" op: "cast" input: "half" output: "back" attr { name: "to" s: "f32" } }',
                last="back")
            plain = self.losses()
            self.assertNotEqual(cast, plain, half)
            for a, b in zip(cast, plain):
                self.assertAlmostEqual(a, b, delta=0.02 * abs(b))


if __name__ == "__main__":
    unittest.main()
