"""How much of the work on other lanes - copies, the host's updates, storage, communication - hides behind compute.

    python3 tools/overlap.py vit_base_nvme digits_vit_offload [--steps 6] [--rounds 3]

Runs each pipeline with runtime.overlap on and off in turn, `rounds` times, and prints medians: the step of both ways,
measured and simulated; what overlap could hide (work on other lanes, at most what the longest lane leaves free) and
what it hid, by the clock. Rates are those that `millrace calibrate` measures first, on this machine, unless
--no-calibrate. Weights must be the same both ways.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MILLRACE = os.path.join(ROOT, "bazel-bin", "tools", "millrace")


def call(*args):
    done = subprocess.run([MILLRACE, *args], capture_output=True, text=True, cwd=tempfile.gettempdir())
    if done.returncode != 0:
        sys.exit(f"millrace {' '.join(args)}\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure(pipeline, steps, rounds, calibrate, folder):
    path = os.path.join(ROOT, "pipelines", pipeline + ".textproto")
    common = [path, "--set", f"train.steps={steps}", "--set", "train.eval_every=0", "--set", "checkpoint.save=false",
              "--set", f"checkpoint.folder={folder}/run"]
    if calibrate:
        table = os.path.join(folder, pipeline + ".costs.textproto")
        call("calibrate", path, "--out", table, "--json")
        common += ["--set", f"costs={table}"]
    ways = {"on": ["--set", "runtime.overlap=true"], "off": ["--set", "runtime.overlap=false"]}
    simulated = {way: call("simulate", *common, *flags, "--json") for way, flags in ways.items()}
    seconds, weights = {way: [] for way in ways}, set()
    for _ in range(rounds):
        for way, flags in ways.items():
            result = call("run", *common, *flags, "--json")
            seconds[way].append(result["step_seconds_median"])
            weights.add(result["weights_sha256"])
    if len(weights) != 1:
        sys.exit(f"{pipeline}: overlap changes the weights: {weights}")
    on, off = (statistics.median(seconds[way]) for way in ("on", "off"))
    sim_on, sim_off = (simulated[way]["step_seconds"] for way in ("on", "off"))
    # Without overlap a step is the sum of all lanes; with it, at best the bound of the plan with overlap.
    hideable = sim_off - simulated["on"]["lower_bound_seconds"]
    return {"pipeline": pipeline, "on": on, "off": off, "ratio": off / on, "simulated_on": sim_on,
            "simulated_off": sim_off, "simulated_ratio": sim_off / sim_on, "hideable": hideable,
            "hidden": off - on, "hidden_share": (off - on) / hideable if hideable > 0 else float("nan"),
            "planned_share": (sim_off - sim_on) / hideable if hideable > 0 else float("nan")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipelines", nargs="+")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-calibrate", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    print("pipeline               overlap: on        off    off/on   simulated: on      off    off/on"
          "   hideable   hidden  planned", file=sys.stderr)
    rows = []
    with tempfile.TemporaryDirectory(prefix="millrace_overlap_") as folder:
        for pipeline in args.pipelines:
            r = measure(pipeline, args.steps, args.rounds, not args.no_calibrate, folder)
            rows.append(r)
            print(f"{r['pipeline']:20} {r['on'] * 1e3:10.1f} ms {r['off'] * 1e3:7.1f} ms {r['ratio']:7.3f} "
                  f"{r['simulated_on'] * 1e3:12.1f} ms {r['simulated_off'] * 1e3:7.1f} ms "
                  f"{r['simulated_ratio']:6.3f} {r['hideable'] * 1e3:8.1f} ms {r['hidden_share']:7.0%} "
                  f"{r['planned_share']:7.0%}", file=sys.stderr)
    if args.json:
        print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
