#!/usr/bin/env python3
"""A schedule can be read before it runs, and looked at after: text, JSON, a Graphviz picture, a trace for Perfetto, the
last of the prediction and of the run alike.
"""

import collections
import json
import os
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import unittest  # noqa: E402

from millrace_cli import MillraceTest, call, sets  # noqa: E402

NANOSECOND = 0.001  # times are in microseconds with three digits; a sum of two may be off by the last


class ExportTest(MillraceTest):
    def export(self, pipeline, form, *words):
        result = call("export", pipeline, "--format", form, *words)
        self.assertEqual(result.code, 0, str(result))
        return result.out

    def check_trace(self, text, world, steps, lanes=("compute", "comm:data")):
        """A trace of `steps` steps as Perfetto shows it: a track for each rank and lane, one thing at a time on each."""
        events = json.loads(text)["traceEvents"]
        steps_track = {(e["pid"], e["tid"]) for e in events if e["name"] == "thread_name" and e["args"]["name"] == "steps"}
        self.assertEqual(len(steps_track), 1)  # on rank 0: from where to where each step goes
        events = [e for e in events if (e["pid"], e["tid"]) not in steps_track]
        names = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
        self.assertEqual(names, {(rank, tid): name for rank in range(world) for tid, name in enumerate(lanes)})
        processes = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
        self.assertEqual(sorted(processes), list(range(world)))
        for rank, name in processes.items():
            self.assertTrue(name.startswith(f"rank {rank}"), name)

        slices = collections.defaultdict(list)
        for e in events:
            if e["ph"] == "X":
                self.assertGreaterEqual(e["dur"], 0)
                slices[e["pid"], e["tid"]].append((e["ts"], e["ts"] + e["dur"], e["name"]))
        self.assertEqual(set(slices), set(names))
        loads = 0
        for track in slices.values():
            track.sort()
            for (_, end, before), (begin, _, after) in zip(track, track[1:]):
                self.assertLessEqual(end, begin + 2 * NANOSECOND, f"{before} and {after} on one track")
            loads += sum(name.startswith("load_batch") for _, _, name in track)
        self.assertEqual(loads, world * steps)
        return {(rank, names[rank, tid]): track for (rank, tid), track in slices.items()}

    def communication_over_compute(self, tracks, rank):
        """Time in which both lanes of a rank are busy."""
        return sum(max(0, min(a_end, b_end) - max(a, b))
                   for a, a_end, _ in tracks[rank, "comm:data"] for b, b_end, _ in tracks[rank, "compute"])

    def test_the_predicted_trace_shows_communication_over_compute(self):
        for world in (2, 4):
            tracks = self.check_trace(self.export("digits_vit", "chrome", *sets(parallel__data=world)), world, steps=1)
            for rank in range(world):
                self.assertGreater(self.communication_over_compute(tracks, rank), 0)

    def test_without_overlap_there_is_one_lane(self):
        trace = self.export("digits_vit", "chrome", *sets(runtime__overlap="false"))
        tracks = self.check_trace(trace, world=2, steps=1, lanes=["compute"])
        self.assertIn("reduce_scatter", "".join(name for _, _, name in tracks[0, "compute"]))

    def test_the_trace_of_a_run_shows_the_same_tracks_and_nodes(self):
        trace = self.train("digits_vit", train__steps=3).json["outputs"]["trace"]
        with open(trace, encoding="utf-8") as file:
            run = self.check_trace(file.read(), world=2, steps=3)
        predicted = self.check_trace(self.export("digits_vit", "chrome"), world=2, steps=1)
        for lane, track in predicted.items():
            self.assertEqual({name for _, _, name in track}, {name for _, _, name in run[lane]}, lane)
        self.assertGreater(self.communication_over_compute(run, 0) + self.communication_over_compute(run, 1), 0)

    def test_only_the_last_steps_are_kept_in_the_trace(self):
        trace = self.train("digits_vit", train__steps=5, runtime__trace_steps=2).json["outputs"]["trace"]
        with open(trace, encoding="utf-8") as file:
            self.check_trace(file.read(), world=2, steps=2)

    def test_json_and_text_say_the_same_of_the_plan(self):
        plan = json.loads(self.export("digits_vit", "json"))
        text = self.export("digits_vit", "text")
        self.assertEqual((plan["name"], plan["world_size"]), ("digits_vit", 2))
        self.assertIn(f'hash: "{plan["hash"]}"', text)
        self.assertIn(f'device: {plan["rank_plan"][0]["peak"]["device"]} ', text)
        nodes = [run["node"] for lane in plan["rank_plan"][0]["lane"] for run in lane["run"]]
        self.assertGreater(len(nodes), 20)
        for node in nodes:
            self.assertIn(f'node: "{node}"', text)

    def test_the_graph_in_text_is_a_step_that_can_be_run_as_written_by_hand(self):
        text = self.export("two_layer", "text", "--what", "graph")
        with open("pipelines/two_layer.textproto", encoding="utf-8") as file:
            pipeline = file.read()
        begin, end = pipeline.index("graph {"), pipeline.index("\ndata {")
        exported = self.write("exported.textproto", pipeline[:begin] + "graph {\n" + text + "}\n" + pipeline[end:])
        runs = [self.train(p, folder=f"run{i}", train__steps=5).json for i, p in enumerate(("two_layer", exported))]
        self.assertEqual(runs[0]["weights_sha256"], runs[1]["weights_sha256"])

    @unittest.skipUnless(shutil.which("dot"), "Graphviz is not installed")
    def test_graphviz_renders_plan_and_graph(self):
        for what in ("plan", "graph"):
            source = self.export("digits_vit", "dot", "--what", what)
            picture = subprocess.run(["dot", "-Tsvg"], input=source, capture_output=True, text=True, timeout=60, check=True)
            self.assertIn("</svg>", picture.stdout)
            self.assertIn("backward/layers.3/0", picture.stdout)
            self.assertEqual(picture.stderr, "")

    def test_a_file_is_written_where_asked(self):
        out = self.path("plan.json")
        told = self.call("export", "digits_vit", "--format", "json", "--out", out).json
        self.assertEqual((told["out"], told["bytes"]), (out, os.path.getsize(out)))
        with open(out, encoding="utf-8") as file:
            self.assertEqual(json.load(file)["name"], "digits_vit")


if __name__ == "__main__":
    unittest.main()
