#!/usr/bin/env python3
"""The report is one file that needs nothing else, says what the run's other files say, and cannot be broken out of by
names in a pipeline. Where a Chromium is installed, it is opened without network and used by keyboard.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
sys.path.insert(0, "tools")
import unittest  # noqa: E402

import screenshot  # noqa: E402
from millrace_cli import MillraceTest, call, sets  # noqa: E402

LIMIT = 2 << 20
DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.S)

# Presses keys and leaves what happened in a hidden element. `state`, `$` and `lanes` are the page's own.
USE = """
setTimeout(() => {
  const press = (key, at = lanes) => at.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
  const named = () => ($("details").querySelector("strong") || { textContent: "" }).textContent;
  const out = { rows: $("nodes-table").querySelectorAll("tbody tr").length, tiers: $("memory-charts").querySelectorAll("svg").length,
                curves: $("curves").querySelectorAll("svg").length, notes: $("notes").textContent };
  lanes.focus();
  press("Home"); out.first = named();
  press("End"); out.last = named();
  press("Enter"); out.cause = named();
  const before = state.view[1] - state.view[0];
  press("+"); out.zoomed = (state.view[1] - state.view[0]) / before;
  press("0"); out.all = (state.view[1] - state.view[0]) / before;
  press("/"); out.focused = document.activeElement.id;
  $("search").value = "forward layers.1"; $("search").dispatchEvent(new Event("input"));
  out.found = $("found").textContent;
  out.filtered = [...$("nodes-table").querySelectorAll("tbody tr")].map((tr) => tr.cells[0].textContent);
  press("Enter", $("search")); out.match = named();
  press("?", (lanes.focus(), lanes)); out.help = $("help").open; $("help").close();
  press("c"); out.critical = $("critical").getAttribute("aria-pressed");
  const lane = rows.find((r) => r.kind === "lane" && r.source.name === "measured");
  if (lane) {
    const s = lane.source.spans, last = s.node.reduce((best, _, i) => s.begin[i] + s.ns[i] > s.begin[best] + s.ns[best] ? i : best, 0);
    out.path = [isCritical(lane, last), isCritical(lane, indexOfNode(s, s.cause[last]))];
  }
  const theme = document.documentElement.dataset.theme;
  press("d"); out.switched = document.documentElement.dataset.theme !== theme;
  press("Escape"); out.cleared = $("search").value + $("found").textContent + $("details").textContent;
  const result = document.createElement("pre");
  result.id = "result"; result.hidden = true; result.textContent = JSON.stringify(out);
  document.body.append(result);
}, 200);
"""


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


class ReportTest(MillraceTest):
    def data(self, html):
        found = DATA.findall(html)
        self.assertEqual(len(found), 1)
        return json.loads(found[0])

    def run_with_report(self, **settings):
        run = self.train("digits_vit", train__steps=8, train__eval_every=4, **settings).json
        return run, read(run["outputs"]["report"])

    def check_alone(self, html):
        """Nothing in the file asks for another one."""
        self.assertLess(len(html.encode()), LIMIT)
        page = DATA.sub("", html).replace("http://www.w3.org/2000/svg", "")
        for outside in ("http:", "https:", "src=", "@import", "<link", "import("):
            self.assertNotIn(outside, page)
        for url in re.findall(r"url\(([^)]*)", page):
            self.assertTrue(url.startswith("#"), url)
        self.assertIn("default-src 'none'", page)

    def test_the_report_of_a_run_agrees_with_its_other_files(self):
        run, html = self.run_with_report(parallel__zero__stage=3)
        self.check_alone(html)
        data = self.data(html)
        lines = [json.loads(line) for line in read(run["outputs"]["metrics"]).splitlines()]
        steps = [line for line in lines if "loss" in line]
        for column in ("step", "loss", "lr", "grad_norm", "step_seconds", "samples_per_second"):
            self.assertEqual(data["metrics"][column], [line[column] for line in steps], column)
        self.assertEqual(data["metrics"]["evaluations"], [line for line in lines if "eval_loss" in line])
        summary = data["summary"]
        self.assertEqual(summary["measured_seconds"], run["step_seconds_median"])
        self.assertAlmostEqual(summary["predicted_seconds"], run["simulated_step_seconds"], delta=1e-9)
        self.assertEqual(summary["weights_sha256"], run["weights_sha256"])
        self.assertGreater(run["mfu"], 0)
        self.assertEqual(summary["mfu"], run["mfu"])
        self.assertNotIn("issue", {**summary, **run}, "there are no devices to issue to")
        [device] = summary["tiers"]
        self.assertEqual((device["peak"], device["measured"]), (run["peak_bytes_predicted"]["device"], run["peak_bytes_measured"]["device"]))
        self.assertEqual(device["peak"], sum(entry["bytes"] for entry in device["at_peak"]))
        saved = json.loads(read(self.path("run", "run.json")))
        self.assertEqual(saved["outputs"], run["outputs"])

    def test_the_measured_spans_are_those_of_the_trace(self):
        run, html = self.run_with_report()
        measured, nodes = self.data(html)["measured"], self.data(html)["nodes"]["name"]
        spans = [e for e in json.loads(read(run["outputs"]["trace"]))["traceEvents"] if e["ph"] == "X" and "op" in e["args"]]
        ranks = [rank for step in measured["steps"] for rank in step["ranks"]]
        self.assertEqual(len(spans), sum(len(rank["spans"]["node"]) for rank in ranks))
        self.assertAlmostEqual(sum(e["dur"] for e in spans), sum(sum(rank["spans"]["ns"]) for rank in ranks) / 1000, delta=1)
        loads = [e["dur"] * 1000 for e in spans if e["name"] == "load_batch/0"]
        self.assertAlmostEqual(measured["node_ns"][nodes.index("load_batch/0")], statistics.median_high(loads), delta=2)

    def test_the_report_before_a_run_shows_the_prediction_and_where_values_come_from(self):
        out = self.path("report.html")
        words = ["export", "vit_huge", "--format", "html", "--out", out, "--set", "train.seed=7"]
        self.call(*words)
        html = read(out)
        self.check_alone(html)
        data = self.data(html)
        simulated = self.call("simulate", "vit_huge", *sets(train__seed=7)).json
        self.assertEqual(data["summary"]["predicted_seconds"], simulated["step_seconds"])
        self.assertEqual(data["summary"]["exposed_comm_seconds"], simulated["exposed_comm_seconds"])
        names = data["nodes"]["name"]
        self.assertEqual([names[n] for n in data["critical"]["node"]], [n["node"] for n in simulated["critical_path"]])
        [group] = data["predicted"]["groups"]  # eight ranks that do the same
        self.assertEqual(group["ranks"], list(range(8)))
        busy = sum(lane["busy"] for lane in simulated["lanes"] if lane["rank"] == 0)
        self.assertAlmostEqual(sum(group["spans"]["ns"]) / 1e9, busy, delta=1e-5)
        curve = next(c for c in data["plans"][0]["memory"] if c["tier"] == "device")
        self.assertEqual(max(map(sum, zip(*(k["bytes"] for k in curve["kinds"])))), curve["peak_bytes"])
        origins = {c["path"]: (c["value"], c["origin"]) for c in data["config"]}
        self.assertEqual(origins["train.seed"], ("7", "--set"))
        self.assertIn(("8", "file"), [origins["parallel.data"]])
        self.assertEqual(origins["optimizer.beta1"], ("0.9", "default"))
        self.assertTrue(all(check["ok"] for check in data["checks"]))
        self.assertEqual(data["command"], " ".join(["millrace", *words, "--json"]))
        self.assertNotIn("measured", data)

    def test_names_cannot_break_out_of_the_page(self):
        evil = "</script><script>document.title=1</script><!--"
        text = read("pipelines/two_layer.textproto")
        text = re.sub(r'^description:.*\n', "", text, flags=re.M) + f'\ndescription: "{evil} & \\"quoted\\""\n'
        text = re.sub(r'^name:.*\n', f'name: "{evil}"\n', text, flags=re.M)
        os.makedirs(self.path("</script><b>"))
        pipeline = self.write("</script><b>/evil.textproto", text)
        result = call("export", pipeline, "--format", "html")
        self.assertEqual(result.code, 0, str(result))
        self.check_alone(result.out)
        data = self.data(result.out)
        self.assertEqual(data["summary"]["name"], evil)
        self.assertEqual(data["summary"]["description"], f'{evil} & "quoted"')
        self.assertNotIn("document.title=1</script>", result.out)
        self.assertEqual(result.out.count("</script>"), 2)
        self.assertIn("<title>&lt;/script&gt;", result.out)

    def open_page(self, html):
        """Runs USE in the page; returns what it left."""
        page = self.write("use.html", html.replace("</body>", f"<script>{USE}</script></body>"))
        with tempfile.TemporaryDirectory() as profile:
            done = subprocess.run(screenshot.command(screenshot.browser(), profile, "--dump-dom", "file://" + page),
                                  stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual(screenshot.console_errors(done.stderr), [])
        result = re.search(r'<pre id="result" hidden="">(.*?)</pre>', done.stdout, re.S)
        self.assertIsNotNone(result, done.stdout[-500:] + done.stderr[-2000:])
        return json.loads(result.group(1).replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&"))

    @unittest.skipUnless(screenshot.browser(), "no Chromium is installed")
    def test_search_and_keyboard_work_without_network(self):
        seen = self.open_page(self.run_with_report()[1])
        self.assertEqual((seen["tiers"], seen["curves"]), (1, 5))
        self.assertEqual(seen["first"], "load_batch/0")
        self.assertNotIn(seen["last"], ("", seen["first"]))
        self.assertNotIn(seen["cause"], ("", seen["last"]))
        self.assertAlmostEqual(seen["zoomed"], 1 / 1.5)
        self.assertAlmostEqual(seen["all"], 1)
        self.assertEqual(seen["focused"], "search")
        self.assertEqual((seen["found"], seen["filtered"], seen["match"]), ("1 node", ["forward/layers.1/0"], "forward/layers.1/0"))
        self.assertGreater(seen["rows"], 20)
        self.assertTrue(seen["help"] and seen["switched"])
        self.assertEqual((seen["critical"], seen["path"]), ("true", [True, True]))
        self.assertEqual(seen["cleared"], "")

    @unittest.skipUnless(screenshot.browser(), "no Chromium is installed")
    def test_the_page_of_a_step_written_by_hand_works_too(self):
        seen = self.open_page(call("export", "two_layer", "--format", "html").out)
        self.assertEqual(seen["curves"], 0)
        self.assertNotEqual(seen["first"], "")


if __name__ == "__main__":
    unittest.main()
