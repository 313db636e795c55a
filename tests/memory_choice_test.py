#!/usr/bin/env python3
"""memory.offload.auto: the planner finds recompute and offload settings for budgets of 75 %, 50 % and 25 % of what a step
takes as it is; a run keeps them to the byte, and its weights are those of the run without.
"""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import unittest  # noqa: E402

from millrace_cli import MillraceTest, sets  # noqa: E402

SHARES = (0.75, 0.5, 0.25)


def auto(budget):
    return sets(memory__offload__auto="true", memory__device_budget_bytes=budget)


class PlanTest(MillraceTest):
    def chosen(self, pipeline, share, *words):
        """(plan, its choice) under a share of the plain peak; checked."""
        plain = self.call("plan", pipeline, *words).json["peak_bytes"]["device"]
        budget = int(plain * share)
        result = self.call("plan", pipeline, *words, *auto(budget))
        plan = result.json
        choice = plan["offload"]
        self.assertLessEqual(plan["peak_bytes"]["device"], budget, choice)
        self.assertEqual(choice["device_budget_bytes"], budget)
        self.assertTrue(choice["settings"], choice)
        self.assertIn("offload auto: " + choice["chosen"]["what"], result.err)
        return plan, choice

    def test_budgets_of_three_quarters_half_and_a_quarter_are_met(self):
        for pipeline in ("vit_tiny", "vit_base"):
            for world in (1, 2):
                words = sets(parallel__zero__stage=3, parallel__data=world)
                before = 0
                for share in SHARES:
                    with self.subTest(pipeline=pipeline, world=world, share=share):
                        _, choice = self.chosen(pipeline, share, *words)
                        self.assertGreaterEqual(choice["chosen"]["step_seconds"], before * 0.98)  # less memory, more time
                        before = choice["chosen"]["step_seconds"]

    def test_vit_huge_gets_by_with_a_quarter(self):
        self.chosen("vit_huge", 0.25)

    def test_what_was_chosen_is_a_pipeline_like_any_other(self):
        words = sets(parallel__zero__stage=3)
        plan, choice = self.chosen("vit_tiny", 0.25, *words)
        settings = [word for s in choice["settings"] for word in ("--set", s)]
        budget = sets(memory__device_budget_bytes=choice["device_budget_bytes"])
        self.assertEqual(self.call("plan", "vit_tiny", *words, *budget, *settings).json["plan_hash"], plan["plan_hash"])
        again, _ = self.chosen("vit_tiny", 0.25, *words)
        self.assertEqual(again["plan_hash"], plan["plan_hash"])

    def test_where_all_fits_nothing_is_chosen(self):
        plain = self.call("plan", "digits_vit").json
        plan = self.call("plan", "digits_vit", *auto(plain["peak_bytes"]["device"])).json
        self.assertEqual(plan["offload"]["settings"], [])
        self.assertNotIn("host", [tier for tier, n in plan["peak_bytes"].items() if n > 0])

    def test_without_a_budget_or_beside_settings_by_hand_it_is_an_error(self):
        def complaint(pipeline, *words):
            error = self.call("plan", pipeline, *words, code=2).json["error"]
            return error["findings"][0]

        on = sets(memory__offload__auto="true")
        self.assertIn("no budget to fit", complaint("vit_tiny", *on)["message"])  # this machine states none
        by_hand = complaint("vit_tiny", *on, *sets(memory__offload__optimizer__tier="HOST"))
        self.assertEqual(by_hand["check"], "contradiction")
        self.assertEqual(complaint("two_layer", *on)["check"], "changes_nothing")

    def test_parameters_that_may_not_leave_are_named_where_nothing_fits(self):
        plain = self.call("plan", "vit_base").json["peak_bytes"]["device"]
        finding = self.call("plan", "vit_base", *auto(plain // 5), code=2).json["error"]["findings"][0]
        self.assertEqual(finding["check"], "budget")
        self.assertIn("the least takes", finding["message"])
        self.assertIn("parallel.zero.stage=3", finding["suggestion"])


class RunTest(MillraceTest):
    def test_a_run_keeps_the_budget_and_its_weights_are_the_same(self):
        for world in (1, 2):
            settings = {"parallel__zero__stage": 3, "parallel__data": world, "train__steps": 3, "runtime__trace_steps": 0,
                        "train__micro_batch": 4}
            plain = self.train("vit_tiny", **settings).json
            peak = plain["peak_bytes_measured"]["device"]
            for share in SHARES:
                with self.subTest(world=world, share=share):
                    budget = int(peak * share)
                    run = self.train("vit_tiny", *auto(budget), **settings).json
                    self.assertEqual(run["weights_sha256"], plain["weights_sha256"])
                    self.assertEqual(run["peak_bytes_measured"], run["peak_bytes_predicted"])
                    self.assertLessEqual(run["peak_bytes_measured"]["device"], budget)


if __name__ == "__main__":
    unittest.main()
