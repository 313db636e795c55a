#!/usr/bin/env python3
"""`millrace explain`: of a node where, why and when, with numbers that agree with the simulation; of a setting what it
means and what other values do, with numbers that agree with `plan` and `simulate`.
"""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import unittest  # noqa: E402

from millrace_cli import MillraceTest, sets  # noqa: E402


class ExplainTest(MillraceTest):
    def explain(self, what, *words, pipeline="digits_vit", code=0):
        return self.call("explain", pipeline, what, *words, code=code).json

    def test_nodes_of_the_critical_path_have_no_slack(self):
        path = self.call("simulate", "digits_vit_zero3").json["critical_path"]
        for node in path[:: max(1, len(path) // 6)]:
            facts = self.explain(node["node"], pipeline="digits_vit_zero3")
            self.assertLess(facts["slack"], 1e-7, node)
            self.assertAlmostEqual(facts["end"] - facts["begin"], node["seconds"], delta=2e-9)
            self.assertEqual(facts["lane"], node["lane"])

    def test_a_node_says_what_it_waited_for_and_what_it_costs(self):
        facts = self.explain("backward/layers.2/0")
        self.assertEqual(facts["op"], "backward")
        self.assertTrue(facts["reason"])
        self.assertEqual([w["last"] for w in facts["waits"]], [True] + [False] * (len(facts["waits"]) - 1))
        self.assertIn({"data", "lane"}, [{w["kind"] for w in facts["waits"]}])
        cost = facts["cost"]
        self.assertGreater(cost["operators"], 0)
        terms = {k: cost[f"{k}_seconds"] for k in ("operator", "compute", "memory", "overhead")}
        self.assertAlmostEqual(sum(terms.values()), cost["model_seconds"], delta=1e-12)
        self.assertAlmostEqual(cost["model_seconds"], cost["planned_seconds"], delta=1e-12)
        self.assertTrue(cost["bound"].startswith(max(terms, key=terms.get)))
        self.assertAlmostEqual(facts["end"] - facts["begin"], cost["planned_seconds"] + cost["contention_seconds"], delta=4e-9)
        saved = next(v for v in facts["values"] if v["value"] == "saved/layers.2/0")
        self.assertEqual((saved["first"], saved["last"]), ("forward/layers.2/0", "backward/layers.2/0"))

    def test_the_shared_name_of_two_halves_is_the_operation(self):
        facts = self.explain("reduce_scatter/bucket_1/0")
        self.assertEqual(facts["node"], "reduce_scatter/bucket_1/0.done")
        self.assertEqual(facts["lane"], "comm:data")
        self.assertGreater(facts["bytes_read"], 0)
        cost = facts["cost"]
        self.assertAlmostEqual(cost["latency_seconds"] + cost["wire_seconds"], cost["planned_seconds"], delta=1e-12)
        self.assertGreater(cost["contention_seconds"], 0)  # cpu_2_cores: it shares its core with the compute lane
        self.assertAlmostEqual(facts["end"] - facts["begin"], cost["planned_seconds"] + cost["contention_seconds"], delta=4e-9)

    def test_a_setting_says_its_meaning_and_what_other_values_do(self):
        knob = self.explain("zero.stage")
        self.assertEqual((knob["knob"], knob["current"], knob["origin"]), ("parallel.zero.stage", "2", "file"))
        self.assertIn("shard optimizer states", knob["doc"])
        self.assertEqual([v["value"] for v in knob["variants"]], ["0", "1", "2", "3"])
        self.assertEqual([v["current"] for v in knob["variants"]], [False, False, True, False])
        for variant in knob["variants"]:
            stage = sets(parallel__zero__stage=variant["value"])
            plan = self.call("plan", "digits_vit", *stage).json
            self.assertEqual(variant["peak_bytes"], plan["peak_bytes"]["device"])
            self.assertEqual(variant["comm_bytes_per_rank"], sum(c["bytes_per_step"] for c in plan["collectives"]))
            self.assertEqual(variant["step_seconds"], self.call("simulate", "digits_vit", *stage).json["step_seconds"])

    def test_values_that_the_pipeline_refuses_are_said_so(self):
        variants = {v["value"]: v for v in self.explain("train.micro_batch", *sets(train__global_batch=100))["variants"]}
        self.assertIn("expected train.micro_batch", variants["25"]["refused"])
        self.assertIn("peak_bytes", variants["50"])

    def test_a_setting_that_the_plan_does_not_know_leaves_it_alone(self):
        result = self.call("explain", "digits_vit", "optimizer.lr")
        self.assertEqual(len({v["plan_hash"] for v in result.json["variants"]}), 1)
        self.assertIn("does not change the plan", result.err)

    def test_plans_beyond_the_memory_are_marked(self):
        knob = self.explain("train.micro_batch", *sets(train__micro_batch=100), pipeline="vit_huge")
        self.assertEqual({v["value"]: v["fits"] for v in knob["variants"]}, {"50": True, "100": True, "200": False})

    def test_unknown_names_are_met_with_near_ones(self):
        for what, near in (("backwrad/layers.2/0", "'backward/layers.2/0'?"), ("parallel.zero.stge", "'parallel.zero.stage'?"),
                           ("kind", "optimizer.kind, lr_schedule.kind")):
            error = self.explain(what, code=2)["error"]
            self.assertIn(near, error["findings"][0]["suggestion"])
        self.call("explain", "digits_vit", code=2)


if __name__ == "__main__":
    unittest.main()
