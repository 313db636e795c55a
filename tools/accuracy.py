#!/usr/bin/env python3
"""How close predictions come: simulated against measured step time, for pipelines that run on this machine, and
whether the simulator ranks variants of one pipeline as the clock does. Memory predicted and measured stand beside it.

  tools/accuracy.py                                 all that run here, at 1 and 2 ranks
  tools/accuracy.py --pipelines vit_tiny --ranks 2
  tools/accuracy.py --variants digits_vit           rank agreement (Kendall's tau) of eight variants
  tools/accuracy.py --recompute vit_tiny,vit_base   what recomputing costs: slow-down predicted and measured

Each row calibrates (`millrace calibrate`: a table of measured costs) and runs the pipeline as it is, in turn and
several times over, since machines change their pace; it prints the step predicted by the machine file alone and the
median of those by the tables, beside the median of the runs. Variants are predicted from one table, made with the
pipeline as it is; so is recompute, whose slow-downs are medians over rounds in which all of its ways run in turn.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
BINARY = os.environ.get("MILLRACE", os.path.join(ROOT, "bazel-bin/tools/millrace"))
RUNNABLE = ["digits_vit", "digits_vit_zero0", "digits_vit_zero1", "digits_vit_zero3", "two_layer", "vit_tiny", "vit_small", "vit_base"]
STEPS = {"vit_base": 6, "vit_small": 10, "two_layer": 1000}  # seconds a step, and a tenth of a millisecond
VARIANTS = [
    [],
    ["parallel.zero.stage=3"],
    ["memory.recompute.every=2"],
    ["memory.recompute.all=true"],
    ["train.accumulation=2"],
    ["train.accumulation=2", "memory.recompute.all=true"],
    ["train.accumulation=3"],
    ["train.micro_batch=1"],
]


def call(verb, pipeline, sets, *words):
    line = [BINARY, verb, os.path.join(ROOT, "pipelines", pipeline + ".textproto"), "--json", *words]
    for each in sets:
        line += ["--set", each]
    done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT)
    lines = done.stdout.strip().splitlines()
    if not lines:
        raise SystemExit(f"{' '.join(line)}:\n{done.stderr}")
    answer = json.loads(lines[-1])
    if "error" in answer:
        raise SystemExit(f"{' '.join(line)}: {answer['error']['message']}")
    return answer


def simulated(pipeline, sets):
    return call("simulate", pipeline, sets)["step_seconds"]


def measured(pipeline, sets, steps, folder):
    # A hand-made length: neither epochs nor files of the user's are touched.
    run = ["train.epochs=0", f"train.steps={steps + 3}"]
    with open(os.path.join(ROOT, "pipelines", pipeline + ".textproto")) as file:
        text = file.read()
    run += [f"train.eval_every={steps + 3}"] if "eval_every" in text else []
    answer = call("run", pipeline, sets + run, "--quiet", "--folder", os.path.join(folder, "run"))
    exact = answer["peak_bytes_predicted"] == answer["peak_bytes_measured"] and answer["unplanned_allocations"] == 0
    return answer["step_seconds_median"], exact


def accuracy(pipelines, ranks, steps, rounds, folder):
    errors, inexact = {"machine": [], "table": []}, 0
    print(f"{'pipeline':20} {'ranks':>5} {'measured ms':>12} {'by machine':>11} {'error':>7} {'by table':>9} {'error':>7}  memory")
    for pipeline, world in itertools.product(pipelines, ranks):
        count = STEPS.get(pipeline, steps)
        sets = [f"parallel.data={world}"]
        table = os.path.join(folder, f"{pipeline}_{world}.costs.textproto")
        runs, by_table = [], []
        for _ in range(1 if pipeline == "vit_base" else rounds):
            call("calibrate", pipeline, sets, "--steps", str(count), "--out", table)
            by_table.append(simulated(pipeline, sets + [f"costs={table}"]))
            seconds, exact = measured(pipeline, sets, count, folder)
            runs.append(seconds)
            inexact += not exact
        run = statistics.median(runs)
        row = {"machine": simulated(pipeline, sets), "table": statistics.median(by_table)}
        off = {k: v / run - 1 for k, v in row.items()}
        for k in errors:
            errors[k].append(abs(off[k]))
        print(f"{pipeline:20} {world:5} {run * 1e3:12.2f} {row['machine'] * 1e3:11.2f} {off['machine']:+7.1%} "
              f"{row['table'] * 1e3:9.2f} {off['table']:+7.1%}  {'exact' if exact else 'NOT EXACT'}", flush=True)
    print(f"memory predicted = measured to the byte: {'all' if inexact == 0 else f'not in {inexact} rows'}")
    for k, values in errors.items():
        print(f"median |simulated - measured| / measured by the {k}: {statistics.median(values):.1%}, worst {max(values):.1%}")


def tau(pairs):
    """Kendall's tau over pairs (predicted, measured)."""
    agree = 0
    for (a, x), (b, y) in itertools.combinations(pairs, 2):
        agree += 1 if (a - b) * (x - y) > 0 else -1 if (a - b) * (x - y) < 0 else 0
    return agree / (len(pairs) * (len(pairs) - 1) / 2)


def variants(pipeline, ranks, steps, folder):
    for world in ranks:
        table = os.path.join(folder, f"{pipeline}_{world}.costs.textproto")
        base = [f"parallel.data={world}"]
        with open(os.path.join(ROOT, "pipelines", pipeline + ".textproto")) as file:
            base += ["data.synthetic_count=64"] if "SYNTHETIC" in file.read() else []  # enough for three micro-batches
        count = STEPS.get(pipeline, steps)
        call("calibrate", pipeline, base, "--steps", str(count), "--out", table)
        pairs = []
        for sets in VARIANTS:
            predicted = simulated(pipeline, base + sets + [f"costs={table}"])
            run, _ = measured(pipeline, base + sets, count, folder)
            pairs.append((predicted, run))
            print(f"{pipeline} {world} ranks {' '.join(sets) or 'as it is':70} predicted {predicted * 1e3:9.2f} ms "
                  f"measured {run * 1e3:9.2f} ms {predicted / run - 1:+7.1%}", flush=True)
        print(f"{pipeline}, {world} ranks: Kendall's tau of {len(pairs)} variants {tau(pairs):.2f}, median error "
              f"{statistics.median(abs(p / m - 1) for p, m in pairs):.1%}")


RECOMPUTE = {"none": [], "every 2nd": ["memory.recompute.every=2"], "all": ["memory.recompute.all=true"]}


def recompute(pipelines, ranks, steps, rounds, folder):
    print(f"{'pipeline':10} {'ranks':>5}  {'recompute':10} {'device MB':>10} {'measured ms':>12} {'slow-down':>10} "
          f"{'by table':>9} {'by machine':>11}  weights")
    for pipeline, world in itertools.product(pipelines, ranks):
        count = min(steps, STEPS.get(pipeline, steps))
        base = [f"parallel.data={world}"]
        table = os.path.join(folder, f"{pipeline}_{world}.costs.textproto")
        runs, by_table, by_machine, answers = ({way: [] for way in RECOMPUTE} for _ in range(4))
        for _ in range(rounds):
            call("calibrate", pipeline, base, "--steps", str(count), "--out", table)
            for way, sets in RECOMPUTE.items():
                by_table[way].append(simulated(pipeline, base + sets + [f"costs={table}"]))
                by_machine[way].append(simulated(pipeline, base + sets))
                run = [f"train.steps={count + 3}", "train.epochs=0", "checkpoint.save=false"]
                answers[way].append(call("run", pipeline, base + sets + run, "--quiet", "--folder", os.path.join(folder, "run")))
                runs[way].append(answers[way][-1]["step_seconds_median"])
        hashes = {a["weights_sha256"] for each in answers.values() for a in each}

        def slower(seconds, way):  # round by round: the machine's pace is then the same for both
            return statistics.median(x / y for x, y in zip(seconds[way], seconds["none"])) - 1

        for way in RECOMPUTE:
            print(f"{pipeline:10} {world:5}  {way:10} {answers[way][0]['peak_bytes_measured']['device'] / 1e6:10.1f} "
                  f"{statistics.median(runs[way]) * 1e3:12.2f} {slower(runs, way):+10.1%} {slower(by_table, way):+9.1%} "
                  f"{slower(by_machine, way):+11.1%}  {'the same' if len(hashes) == 1 else 'DIFFER'}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipelines", default=",".join(RUNNABLE))
    parser.add_argument("--ranks", default="1,2")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--variants", metavar="PIPELINE")
    parser.add_argument("--recompute", metavar="PIPELINES")
    args = parser.parse_args()
    ranks = [int(r) for r in args.ranks.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        if args.variants:
            variants(args.variants, ranks, args.steps, folder)
        elif args.recompute:
            recompute(args.recompute.split(","), ranks, args.steps, args.rounds, folder)
        else:
            accuracy(args.pipelines.split(","), ranks, args.steps, args.rounds, folder)


if __name__ == "__main__":
    sys.exit(main())
