#!/usr/bin/env python3
"""What is written down can be read back: a step as text runs as it did, a plan as JSON says what its text says, a picture
has exactly the plan's nodes and edges, and a trace's file holds what the simulator found.
"""

import collections
import json
import os
import re
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import unittest  # noqa: E402

from millrace_cli import MillraceTest, call, sets  # noqa: E402

QUOTED = r'"(?:[^"\\]|\\.)*"'


def unquoted(text):
    return re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], text[1:-1])


def parse_dot(text):
    """A reader of the part of Graphviz's language that we write: (node -> (clusters, attributes), edges)."""
    nodes, edges, stack = {}, [], []
    for line in text.splitlines():
        line = line.strip()
        cluster = re.fullmatch(r"subgraph (\w+) \{", line)
        if cluster:
            stack.append({"id": cluster[1], "label": ""})
            continue
        if line == "}":
            if stack:
                stack.pop()
            continue
        label = re.match(rf"label=({QUOTED})", line)
        if label and stack:
            stack[-1]["label"] = unquoted(label[1])
        statement = re.fullmatch(rf"(\w+)(?: -> (\w+))? \[(.*)\];", line)
        if not statement or statement[1] in ("node", "edge"):
            continue
        attributes = {k: unquoted(v) if v[0] == '"' else v
                      for k, v in re.findall(rf"(\w+)=({QUOTED}|[^,\]]+)", statement[3])}
        if statement[2]:
            edges.append((statement[1], statement[2], attributes))
        else:
            nodes[statement[1]] = ([c["label"] for c in stack], attributes)
    return nodes, edges


class RoundTripTest(MillraceTest):
    def export(self, pipeline, form, *words):
        result = call("export", pipeline, "--format", form, *words)
        self.assertEqual(result.code, 0, str(result))
        return result.out

    def with_graph(self, name, pipeline, graph):
        """The pipeline's file with `graph` as its step."""
        with open(f"pipelines/{pipeline}.textproto", encoding="utf-8") as file:
            text = file.read()
        begin = re.search(r"^graph \{$", text, re.M)
        if begin:  # a step by hand: replaced
            end = re.search(r"^\}$", text[begin.start():], re.M).end() + begin.start()
            text = text[:begin.start()] + text[end:]
        return self.write(name, f"{text}\ngraph {{\n{graph}\n}}\n")

    def check_step_runs_back(self, pipeline, **settings):
        words = sets(**settings)
        graph = self.export(pipeline, "text", "--what", "graph", *words)
        edited = self.with_graph("edited.textproto", pipeline, graph)
        plans = [self.call("plan", p, *words).json for p in (pipeline, edited)]
        self.assertEqual(plans[0]["plan_hash"], plans[1]["plan_hash"])
        # Printed once more it is the same text.
        self.assertEqual(self.export(edited, "text", "--what", "graph", *words), graph)
        runs = [self.train(p, *words, folder=f"run{i}", train__steps=4).json for i, p in enumerate((pipeline, edited))]
        self.assertEqual(runs[0]["weights_sha256"], runs[1]["weights_sha256"])
        self.assertEqual(runs[0]["metrics"], runs[1]["metrics"])
        self.assertEqual(runs[0]["config"]["plan_hash"], runs[1]["config"]["plan_hash"])
        return graph, runs[0]["weights_sha256"]

    def test_a_step_written_by_hand_runs_back_from_its_text(self):
        self.check_step_runs_back("two_layer")

    def test_a_models_step_runs_back_from_its_text(self):
        for stage in (0, 3):
            with self.subTest(stage=stage):
                self.check_step_runs_back("digits_vit", parallel__zero__stage=stage)

    def test_a_models_step_with_two_micro_batches_and_without_overlap_runs_back(self):
        self.check_step_runs_back("digits_vit", train__accumulation=2, train__micro_batch=25, runtime__overlap="false")

    def test_an_edit_of_a_models_step_changes_the_plan_and_not_the_weights(self):
        graph, weights = self.check_step_runs_back("digits_vit")
        # Gradients of the last bucket wait for the second: another order, the same sums.
        edited = re.sub(r'(node \{ name: "reduce_scatter/bucket_2/0.start" .*?)( async:)',
                        r'\1 control: "reduce_scatter/bucket_1/0.done"\2', graph)
        self.assertNotEqual(edited, graph)
        pipeline = self.with_graph("other.textproto", "digits_vit", edited)
        run = self.train(pipeline, folder="other", train__steps=4).json
        self.assertEqual(run["weights_sha256"], weights)
        self.assertNotEqual(run["config"]["plan_hash"], self.call("plan", "digits_vit").json["plan_hash"])
        diff = self.call("diff", "digits_vit", pipeline).json
        self.assertIn(("only_in_b", "control", "reduce_scatter/bucket_*/*.done", "reduce_scatter/bucket_*/*.start"),
                      [(e["change"], e["kind"], e["from"], e["to"]) for e in diff["edges"]])

    def test_a_step_that_no_longer_fits_its_model_is_refused_with_the_line(self):
        graph = self.export("digits_vit", "text", "--what", "graph")
        pipeline = self.with_graph("wrong.textproto", "digits_vit", graph)
        result = self.call("plan", pipeline, "--set", "train.micro_batch=40", code=2)
        finding = result.json["error"]["findings"][0]
        self.assertIn("expected", finding["message"])
        self.assertTrue(finding["file"].endswith("wrong.textproto"))
        self.assertGreater(finding["line"], 0)

    def test_plan_json_and_plan_text_hold_the_same_numbers(self):
        for stage in (0, 3):
            words = sets(parallel__zero__stage=stage)
            plan = json.loads(self.export("digits_vit", "json", *words))
            text = self.export("digits_vit", "text", *words)
            self.assertIn(f'hash: "{plan["hash"]}"', text)
            rank_plan = plan["rank_plan"][0]
            runs = re.findall(rf"run \{{ start: (\S+)\s+seconds: (\S+)\s+node: ({QUOTED})\s+reason: ({QUOTED})", text)
            ours = [(r["node"], r["reason"], r["start"], r["seconds"]) for lane in rank_plan["lane"] for r in lane["run"]]
            self.assertEqual([(unquoted(n), unquoted(r)) for _, _, n, r in runs], [(n, r) for n, r, _, _ in ours])
            for (start, seconds, _, _), (_, _, s, d) in zip(runs, ours):
                self.assertAlmostEqual(float(start), s, delta=1e-9)
                self.assertAlmostEqual(float(seconds), d, delta=1e-9)
            placed = re.findall(rf"placement \{{ (.*) \}}", text)
            self.assertEqual(len(placed), len(rank_plan["placement"]))
            for line, place in zip(placed, rank_plan["placement"]):
                self.assertIn(f'"{place["buffer"]}"', line)
                self.assertRegex(line, rf'\bbytes: {place["bytes"]}\b')
            edges = re.findall(rf"edge \{{ from: ({QUOTED})\s+to: ({QUOTED})", text)
            self.assertEqual([(unquoted(a), unquoted(b)) for a, b in edges],
                             [(e["from"], e["to"]) for kind in rank_plan["edges"] for e in kind["edge"]])
            # What the verbs print of the plan is what is in the file.
            summary = self.call("plan", "digits_vit", *words).json
            self.assertEqual(summary["peak_bytes"], rank_plan["peak"])
            self.assertEqual(summary["collectives"], plan["summary"]["collectives"])
            simulated = self.call("simulate", "digits_vit", *words).json
            self.assertEqual(simulated["step_seconds"], plan["summary"]["simulated"]["step_seconds"])

    def check_dot(self, nodes, edges, plan):
        rank_plan = plan["rank_plan"][0]
        lanes = {run["node"]: lane["name"] for lane in rank_plan["lane"] for run in lane["run"]}
        names = {key: attributes["label"].split("\n")[0] for key, (_, attributes) in nodes.items()}
        self.assertEqual(sorted(names.values()), sorted(lanes))
        for key, (clusters, _) in nodes.items():
            self.assertEqual(clusters[-1], lanes[names[key]])
            self.assertTrue(clusters[0].startswith("rank"))
        drawn = [(names[a], names[b]) for a, b, _ in edges]
        planned = collections.defaultdict(set)
        for kind in rank_plan["edges"]:
            for edge in kind["edge"]:
                planned[edge["from"], edge["to"]].add(kind["kind"])
        self.assertEqual(sorted(drawn), sorted(planned))  # one for each pair of nodes
        for a, b, attributes in edges:
            self.assertIn(attributes["tooltip"], planned[names[a], names[b]])

    def test_the_picture_has_exactly_the_plans_nodes_edges_and_lanes(self):
        for stage in (0, 3):
            words = sets(parallel__zero__stage=stage)
            plan = json.loads(self.export("digits_vit", "json", *words))
            nodes, edges = parse_dot(self.export("digits_vit", "dot", *words))
            self.check_dot(nodes, edges, plan)

    @unittest.skipUnless(shutil.which("dot"), "Graphviz is not installed")
    def test_graphviz_reads_the_same_picture(self):
        plan = json.loads(self.export("digits_vit", "json"))
        done = subprocess.run(["dot", "-Tjson0"], input=self.export("digits_vit", "dot"), capture_output=True, text=True,
                              timeout=60, check=True)
        read = json.loads(done.stdout)
        objects = {o["_gvid"]: o for o in read["objects"]}
        clusters = collections.defaultdict(list)
        for o in read["objects"]:
            for member in o.get("nodes", []):
                clusters[member].append((len(o["nodes"]), o["label"]))
        leaves = {k: o for k, o in objects.items() if "nodes" not in o and "subgraphs" not in o}
        nodes = {k: ([label for _, label in sorted(clusters[k], reverse=True)], {"label": o["label"].replace("\\n", "\n")})
                 for k, o in leaves.items()}
        edges = [(e["tail"], e["head"], {"tooltip": e["tooltip"]}) for e in read["edges"]]
        self.check_dot(nodes, edges, plan)

    def test_the_traces_file_holds_what_the_simulator_found(self):
        for stage, overlap in ((0, "true"), (3, "true"), (3, "false")):
            words = sets(parallel__zero__stage=stage, runtime__overlap=overlap)
            trace = self.write("t.json", self.export("digits_vit", "chrome", *words))
            read = self.call("analyze", trace).json["runs"][0]
            simulated = self.call("simulate", "digits_vit", *words).json
            self.assertTrue(read["predicted"])
            self.assertEqual(read["plan_hash"], simulated["plan_hash"])
            self.assertAlmostEqual(read["step_median_ns"], simulated["step_seconds"] * 1e9, delta=1)
            for ours, theirs in zip(read["lanes"], simulated["lanes"]):
                self.assertEqual((ours["rank"], ours["lane"]), (theirs["rank"], theirs["lane"]))
                self.assertAlmostEqual(ours["rest_ns"], theirs["after_last"] * 1e9, delta=100)
                self.assertAlmostEqual(ours["wait_credit_ns"], theirs["wait_credit"] * 1e9, delta=100)
            worst = max(r["exposed_communication_ns"] for r in read["ranks"])
            self.assertAlmostEqual(worst, simulated["exposed_comm_seconds"] * 1e9, delta=100)


if __name__ == "__main__":
    unittest.main()
