#!/usr/bin/env python3
"""Memory is promised, then kept: a budget below the plan's peak is refused before anything is loaded, with settings that
do fit; and what the process takes beside the plan is a constant.
"""

import json
import os
import re
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import unittest  # noqa: E402

from millrace_cli import BINARY, ENVIRONMENT, MillraceTest, sets  # noqa: E402

PAGE = 4096
OUTSIDE_PLAN = 288 << 20  # as pipelines/runner/trainer.h states it


def budget(bytes_):
    return sets(memory__device_budget_bytes=bytes_)


class BudgetTest(MillraceTest):
    def tightest(self, pipeline, *words):
        """The planner may find a smaller plan where memory is short: the peak that it does not improve on any more."""
        peak = self.call("plan", pipeline, *words).json["peak_bytes"]["device"]
        while True:
            under = self.call("plan", pipeline, *words, *budget(peak)).json["peak_bytes"]["device"]
            if under == peak:
                return peak
            self.assertLess(under, peak)
            peak = under

    def refused(self, pipeline, bytes_, *words, verb="plan"):
        error = self.call(verb, pipeline, *words, *budget(bytes_), code=2).json["error"]
        self.assertEqual([f["check"] for f in error["findings"]], ["budget"], error)
        finding = error["findings"][0]
        self.assertEqual(finding["file"], f"--set memory.device_budget_bytes={bytes_}")
        return finding

    def suggested(self, finding):
        """[(settings, MB)] of a suggestion."""
        lines = [line for line in finding["suggestion"].splitlines() if line.startswith("  --set")]
        self.assertTrue(lines, finding)
        found = []
        for line in lines:
            amount, unit = re.search(r"\(([0-9.]+) (MB|GB)", line).groups()
            found.append((line.split("  (")[0].split(), float(amount) * (1000 if unit == "GB" else 1)))
        return found

    def test_exactly_the_peak_is_accepted_and_a_page_less_is_refused_before_anything_is_opened(self):
        peak = self.tightest("digits_vit")
        missing = sets(data__images="no/such/file", data__labels="no/such/file", checkpoint__folder=self.path("run"))
        finding = self.refused("digits_vit", peak - PAGE, *missing, verb="run")  # and no word of the files
        self.assertFalse(os.path.exists(self.path("run")))
        for words in (f"({peak} bytes)", f"the budget of {peak / 1e6:.1f} MB ({peak - PAGE} bytes)", "at the peak:",
                      "saved: ", "exp_avg (persistent)"):
            self.assertIn(words, finding["message"])
        run = self.train("digits_vit", *budget(peak), train__steps=1, checkpoint__save="false").json
        self.assertEqual(run["peak_bytes_measured"]["device"], peak)

    def test_a_refused_run_has_taken_no_memory(self):
        words = sets(parallel__data=1)
        peak = self.tightest("vit_base", *words)
        self.assertGreater(peak, 4 * OUTSIDE_PLAN)
        process = subprocess.Popen([BINARY, "run", "vit_base", *words, *budget(peak - PAGE)], env=ENVIRONMENT,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(process.returncode, 2)
        self.assertLess(usage.ru_maxrss << 10, OUTSIDE_PLAN)

    def test_what_would_help_was_planned_and_does_fit(self):
        peak = self.tightest("digits_vit")
        kinds = set()
        for share in (1, 0.75, 0.5, 0.3):
            limit = int(peak * share) - PAGE
            for settings, megabytes in self.suggested(self.refused("digits_vit", limit)):
                plan = self.call("plan", "digits_vit", *settings, *budget(limit)).json
                self.assertLessEqual(plan["peak_bytes"]["device"], limit)
                self.assertLessEqual(plan["peak_bytes"]["device"] / 1e6, megabytes + 0.005)  # evaluation may take more
                self.assertEqual(plan["batch"]["global"], 100)
                kinds.update(s.split("=")[0] for s in settings if s != "--set")
        self.assertLessEqual({"memory.recompute.auto", "train.micro_batch", "train.accumulation"}, kinds)

    def test_states_too_large_for_a_stage_are_sharded(self):
        words = sets(parallel__zero__stage=0)
        limit = self.tightest("vit_base", *words) - PAGE
        settings = [s for s, _ in self.suggested(self.refused("vit_base", limit, *words))]
        self.assertIn(["--set", "parallel.zero.stage=1"], settings)

    def test_when_nothing_fits_it_says_the_least(self):
        finding = self.refused("digits_vit", 100000)
        self.assertIn("too much", finding["suggestion"])
        (settings, megabytes), = self.suggested(finding)
        again = self.refused("digits_vit", 100000, *settings)
        needs = int(re.search(r"\((\d+) bytes\) of device memory", again["message"]).group(1))
        self.assertAlmostEqual(needs / 1e6, megabytes, delta=0.006)

    def test_evaluation_is_budgeted_too(self):
        limit = 20000000
        error = self.call("run", "digits_vit", *budget(limit), *sets(train__eval_batch=4000), code=2).json["error"]
        finding, = error["findings"]
        self.assertEqual(finding["check"], "eval_budget")
        (settings, _), = self.suggested(finding)
        self.call("plan", "digits_vit", *settings, *budget(limit))


class ProcessTest(MillraceTest):
    """The peak of the whole process: the tiers of all ranks, 5 %, and a constant."""

    def check(self, run, ranks):
        tiers = ranks * sum(run["peak_bytes_measured"][tier] for tier in ("device", "pinned", "host"))
        self.assertEqual(run["peak_rss_bytes"] - run["rss_outside_plan_bytes"], tiers)
        self.assertEqual(run["rss_constant_bytes"], OUTSIDE_PLAN)
        self.assertLess(run["rss_outside_plan_bytes"], OUTSIDE_PLAN + 0.05 * tiers, run)
        self.assertGreater(run["rss_outside_plan_bytes"], -0.05 * tiers, run)

    def test_resident_memory_is_the_plan_and_a_constant(self):
        for pipeline, ranks in (("digits_vit", 1), ("digits_vit", 2), ("vit_tiny", 2)):
            with self.subTest(pipeline=pipeline, ranks=ranks):
                run = self.train(pipeline, train__steps=3, parallel__data=ranks, checkpoint__save="false").json
                self.check(run, ranks)
                with open(self.path("run", "run.json"), encoding="utf-8") as file:
                    self.assertEqual(json.load(file)["peak_rss_bytes"], run["peak_rss_bytes"])

    def test_saving_and_resuming_hold_no_second_copy_of_the_model(self):
        settings = {"parallel__data": 1, "checkpoint__save": "true"}  # 265 MB of parameters and states
        self.check(self.train("vit_small", train__steps=1, **settings).json, 1)
        self.check(self.train("vit_small", "--resume", train__steps=2, **settings).json, 1)


if __name__ == "__main__":
    unittest.main()
