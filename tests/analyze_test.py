#!/usr/bin/env python3
"""`millrace analyze` against an independent recount: this script reads trace.json with its own code, by counting who is
busy between every two moments at which anything begins or ends, and must find the same nanoseconds.
"""

import collections
import csv
import json
import os
import sys
import xml.etree.ElementTree

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import unittest  # noqa: E402

from millrace_cli import MillraceTest  # noqa: E402

Slice = collections.namedtuple("Slice", "rank lane node what collective begin end ready credit flops stage")


def read_json(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def ns(microseconds):
    return round(microseconds * 1000)


def read_trace(path):
    """(steps as (number, begin, end), slices) of a trace file."""
    events = read_json(path)["traceEvents"]
    lanes = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e.get("name") == "thread_name"}
    steps, slices = [], []
    for e in events:
        if e["ph"] != "X":
            continue
        lane, args, begin = lanes[e["pid"], e["tid"]], e["args"], ns(e["ts"])
        if lane == "steps":
            steps.append((args["step"], begin, begin + ns(e["dur"])))
            continue
        group, half = "group" in args, args.get("async")
        what = ("communication" if lane.startswith("comm") else "issue" if half == "start" else
                "communication" if group else "compute")
        slices.append(Slice(e["pid"], lane, args.get("node", e["name"]), what, group and what == "communication",
                            begin, begin + ns(e["dur"]), begin - ns(args.get("ready_before_us", 0)),
                            begin - ns(args["credit_before_us"]) if "credit_before_us" in args else 0,
                            args.get("flops", 0), args.get("stage")))
    return sorted(steps), slices


def of_step(slices, step):
    return [s for s in slices if step[1] <= s.begin < step[2]]


def recount(slices, begin, end):
    """Nanoseconds of one rank and step by what ran: a sweep over all begins and ends."""
    changes = collections.defaultdict(collections.Counter)
    for s in slices:
        changes[s.begin][s.what] += 1
        changes[s.end][s.what] -= 1
    total, active, before = collections.Counter(), collections.Counter(), begin
    for moment in sorted(set(changes) | {end}):
        span = moment - before
        if span > 0:
            computing, talking = active["compute"] > 0, active["communication"] > 0
            total["compute_ns"] += span * computing
            total["communication_ns"] += span * talking
            total["exposed_communication_ns"] += span * (talking and not computing)
            total["idle_ns"] += span * (not talking and not computing)
        active.update(changes[moment])
        before = moment
    return total


def upper_median(values):
    return sorted(values)[len(values) // 2]


class AnalyzeTest(MillraceTest):
    def analyze(self, *runs):
        return self.call("analyze", *runs).json

    def check_run(self, folder):
        steps, slices = read_trace(os.path.join(folder, "trace.json"))
        told = self.analyze(folder)["runs"][0]
        self.assertFalse(told["predicted"])
        self.assertEqual([(s["step"], s["ns"]) for s in told["steps"]], [(n, e - b) for n, b, e in steps])
        self.assertEqual(told["step_median_ns"], upper_median([e - b for _, b, e in steps]))
        self.check_ranks(told, steps, slices)
        self.check_lanes(told, steps, slices)
        self.check_nodes(told, steps, slices)
        self.check_stragglers(told, steps, slices)
        self.check_path(told, steps)
        self.check_stages(told, steps, slices)
        return told

    def check_ranks(self, told, steps, slices):
        fields = ("compute_ns", "communication_ns", "exposed_communication_ns", "idle_ns")
        for rank in (0, 1):
            total = collections.Counter()
            for i, step in enumerate(steps):
                ours = recount([s for s in of_step(slices, step) if s.rank == rank], step[1], step[2])
                theirs = told["steps"][i]["ranks"][rank]
                self.assertEqual({f: theirs[f] for f in fields}, {f: ours[f] for f in fields}, f"step {step[0]} rank {rank}")
                self.assertEqual(theirs["compute_ns"] + theirs["exposed_communication_ns"] + theirs["exposed_copy_ns"] +
                                 theirs["idle_ns"], step[2] - step[1])
                total.update(ours)
            theirs = told["ranks"][rank]
            self.assertEqual({f: theirs[f] for f in fields}, {f: total[f] for f in fields})
            hidden = total["communication_ns"] - total["exposed_communication_ns"]
            self.assertAlmostEqual(theirs["overlap"], hidden / total["communication_ns"], places=12)
        whole = 2 * sum(e - b for _, b, e in steps)
        for name, field in (("communication_share", "communication_ns"), ("exposed_share", "exposed_communication_ns")):
            self.assertAlmostEqual(told[name], sum(r[field] for r in told["ranks"]) / whole, places=12)

    def check_lanes(self, told, steps, slices):
        """Waits per lane, node by node."""
        for lane in told["lanes"]:
            ours = collections.Counter()
            for step in steps:
                free = step[1]
                mine = [s for s in of_step(slices, step) if (s.rank, s.lane) == (lane["rank"], lane["lane"])]
                for s in sorted(mine, key=lambda s: s.begin):
                    data = min(max(s.ready, free), s.begin)
                    credit = min(max(s.credit, data), s.begin)
                    ours["data or lane"] += data - free
                    ours["wait_credit_ns"] += credit - data
                    ours["wake_up_ns"] += s.begin - credit
                    ours["busy_ns"] += s.end - s.begin
                    free = s.end
                ours["rest_ns"] += step[2] - free
            for field in ("busy_ns", "wait_credit_ns", "wake_up_ns", "rest_ns"):
                self.assertEqual(lane[field], ours[field], f'{lane["rank"]} {lane["lane"]} {field}')
            self.assertEqual(lane["wait_data_ns"] + lane["wait_lane_ns"], ours["data or lane"])

    def check_nodes(self, told, steps, slices):
        durations, work = collections.defaultdict(list), collections.defaultdict(list)
        for step in steps:
            mine = of_step(slices, step)
            last = collections.defaultdict(int)
            for s in mine:
                last[s.node] = max(last[s.node], s.begin)
            for s in mine:
                durations[s.node].append(s.end - s.begin)
                work[s.node].append(max(0, s.end - last[s.node]) if s.collective else s.end - s.begin)
        self.assertEqual({n["node"] for n in told["nodes"]}, set(durations))
        exposed = 0
        for n in told["nodes"]:
            self.assertEqual((n["count"], n["total_ns"], n["median_ns"], n["work_median_ns"]),
                             (len(durations[n["node"]]), sum(durations[n["node"]]), upper_median(durations[n["node"]]),
                              upper_median(work[n["node"]])), n["node"])
            exposed += n["exposed_ns"]
        self.assertEqual(exposed, sum(r["exposed_communication_ns"] for r in told["ranks"]))

    def check_stragglers(self, told, steps, slices):
        waited, caused, last = collections.Counter(), collections.Counter(), collections.Counter()
        for step in steps:
            arrivals = collections.defaultdict(dict)
            for s in of_step(slices, step):
                if s.collective:
                    arrivals[s.node][s.rank] = s.begin
            for ranks in arrivals.values():
                late = max(ranks, key=ranks.get)
                wait = abs(ranks[0] - ranks[1])
                waited[1 - late] += wait
                caused[late] += wait
                last[late] += wait > 0
        for r in told["stragglers"]:
            self.assertEqual((r["waited_ns"], r["caused_ns"], r["times_last"]),
                             (waited[r["rank"]], caused[r["rank"]], last[r["rank"]]))

    def check_path(self, told, steps):
        path = told["critical_path"]
        length = next(e - b for n, b, e in steps if n == path["step"])
        self.assertEqual(length, told["step_median_ns"])
        self.assertEqual(sum(p["ns"] for p in path["parts"]), length)
        self.assertTrue(any(p["node"].startswith("backward/") for p in path["parts"]))

    def check_stages(self, told, steps, slices):
        flops, time = collections.Counter(), collections.Counter()
        for s in slices:
            if s.stage is not None:
                flops[s.stage] += s.flops
                time[s.stage] += s.end - s.begin
        runs = 2 * len(steps)
        self.assertGreater(told["peak_flops_per_second"], 0)
        for stage in told["stages"]:
            self.assertEqual(stage["flops_per_rank_and_step"] * runs, flops[stage["stage"]])
            self.assertEqual(stage["ns_per_rank_and_step"], time[stage["stage"]] // runs)
            rate = stage["flops_per_rank_and_step"] / (stage["ns_per_rank_and_step"] * 1e-9)
            self.assertAlmostEqual(stage["mfu"], rate / told["peak_flops_per_second"], places=9)
        self.assertEqual({s["stage"]: s["name"] for s in told["stages"]}[1], "layers.0")

    def test_totals_agree_with_a_recount_of_the_trace_to_the_nanosecond(self):
        for stage in (0, 3):
            for overlap in ("true", "false"):
                with self.subTest(stage=stage, overlap=overlap):
                    self.train("digits_vit", parallel__data=2, parallel__zero__stage=stage, runtime__overlap=overlap,
                               train__steps=6, folder=f"{stage}-{overlap}")
                    told = self.check_run(self.path(f"{stage}-{overlap}"))
                    if overlap == "false":
                        self.assertEqual(told["overlap"], 0)
                    self.assertTrue(all(n["predicted_ns"] is not None for n in told["nodes"]))
                    result = read_json(self.path(f"{stage}-{overlap}", "run.json"))
                    self.assertAlmostEqual(told["predicted_step_ns"], result["simulated_step_seconds"] * 1e9, delta=1)

    def test_several_runs_stand_side_by_side_in_text_csv_and_bars(self):
        names = {"one": (1, 0), "ddp": (2, 0), "zero1": (2, 1), "zero3": (2, 3)}
        for name, (world, stage) in names.items():
            self.train("digits_vit", parallel__data=world, parallel__zero__stage=stage, train__steps=6, folder=name)
        told = self.call("analyze", *(self.path(n) for n in names), "--csv", self.path("t.csv"), "--plot", self.path("t.svg"))
        for word in ("1 rank", "DDP", "ZeRO-1", "ZeRO-3"):
            self.assertIn(word, told.err)
        with open(self.path("t.csv"), encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        self.assertEqual([r["method"] for r in rows], ["1 rank", "DDP", "ZeRO-1", "ZeRO-3"])
        for row, name in zip(rows, names):
            result = read_json(self.path(name, "run.json"))
            self.assertEqual(int(row["peak_device_bytes"]), result["peak_bytes_measured"]["device"])
            self.assertEqual(float(row["samples_per_second"]), result["samples_per_second"])
            self.assertEqual(float(row["loss"]), result["loss_last"])
            alone = float(rows[0]["samples_per_second"])
            self.assertAlmostEqual(float(row["scaling_efficiency"]),
                                   result["samples_per_second"] / (names[name][0] * alone), places=9)
        root = xml.etree.ElementTree.parse(self.path("t.svg")).getroot()
        words = " ".join("".join(t.itertext()) for t in root.iter("{http://www.w3.org/2000/svg}text"))
        for row in rows:
            self.assertIn(f'{float(row["samples_per_second"]):.1f}', words)
            self.assertIn(f'{row["run"]} · {row["method"]}', words)

    def test_files_for_other_tools_hold_a_rank_each(self):
        folder = self.train("digits_vit", train__steps=3).json["outputs"]["trace"].removesuffix("/trace.json")
        self.call("analyze", folder, "--hta", self.path("hta"))
        steps, slices = read_trace(os.path.join(folder, "trace.json"))
        for rank in (0, 1):
            with open(self.path("hta", f"rank{rank}.json"), encoding="utf-8") as file:
                text = file.read()
            self.assertIn(f'"rank": {rank},', text.split("traceEvents")[0])
            events = json.loads(text)["traceEvents"]
            kernels = [e for e in events if e["cat"] == "kernel"]
            mine = [s for s in slices if s.rank == rank and s.what != "issue"]
            self.assertEqual(len(kernels), len(mine))
            self.assertEqual(sum(ns(e["dur"]) for e in kernels), sum(s.end - s.begin for s in mine))
            communication = [e for e in kernels if e["name"].startswith("ncclKernel_")]
            self.assertEqual(len(communication), sum(s.what == "communication" for s in mine))
            self.assertEqual(sum(e["cat"] == "user_annotation" for e in events), len(steps))

    def test_wrong_files_are_named_and_all_of_them(self):
        trace = self.train("digits_vit", train__steps=3).json["outputs"]["trace"]
        with open(trace, encoding="utf-8") as file:
            text = file.read()
        cut = self.write("cut.json", text[:len(text) // 2])
        foreign = self.write("foreign.json", '{"traceEvents": []}')
        told = self.call("analyze", cut, foreign, self.path("nowhere"), code=2)
        for path, said in ((cut, "ends in the middle"), (foreign, "another program"), ("nowhere", "expected trace.json")):
            self.assertIn(path, told.err)
            self.assertIn(said, told.err)
        self.assertRegex(told.err, r"cut\.json: line \d+, column \d+")
        self.call("analyze", code=2)

    def test_diff_tells_a_pipeline_its_variants_and_files_apart(self):
        same = self.call("diff", "digits_vit", "pipelines/golden/digits_vit.txt", "--exit_code").json
        self.assertTrue(same["same"])
        told = self.call("diff", "digits_vit", "digits_vit", "--set_b", "parallel.zero.stage=3", "--exit_code", code=1).json
        self.assertEqual(told["settings"], [{"what": "parallel.zero.stage", "a": "2", "b": "3"}])
        for field in ("peak_bytes", "collective_bytes", "simulated", "nodes"):
            self.assertTrue(told[field], field)
        gathers = {g["change"] for g in told["nodes"] if g["pattern"].startswith("all_gather/bucket_*/forward")}
        self.assertEqual(gathers, {"only_in_b"})
        out = self.path("plan.json")
        self.call("export", "digits_vit", "--format", "json", "--out", out, "--set", "parallel.zero.stage=3")
        told = self.call("diff", out, "digits_vit", "--set_b", "parallel.zero.stage=3", "--exit_code").json
        self.assertTrue(told["same"] and told["nodes_compared"])
        self.call("diff", out, "digits_vit", "--set_a", "train.steps=3", code=2)
        self.call("diff", "digits_vit", code=2)


if __name__ == "__main__":
    unittest.main()
