#!/usr/bin/env python3
"""How good the planner's schedules are: simulated step / lower bound and bytes placed / peak live bytes, for every
pipeline as it is and over ranks, ZeRO stages and links. Prints a line each, then medians and the worst.

  tools/quality.py                      all pipelines
  tools/quality.py digits_vit vit_huge  these

The lower bound is what no order of the nodes could beat (critical path, load of each lane, bytes over a link's rate);
1.00 is perfect. Exit code 1 when a limit is passed: 1.02 in the median and 1.05 at worst, 1.05 for memory.
"""

import itertools
import json
import os
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
BINARY = os.environ.get("MILLRACE", os.path.join(ROOT, "bazel-bin/tools/millrace"))
MEDIAN_LIMIT, WORST_LIMIT, MEMORY_LIMIT = 1.02, 1.05, 1.05


def ask(verb, pipeline, sets):
    words = [BINARY, verb, os.path.join(ROOT, "pipelines", pipeline + ".textproto"), "--json"]
    for each in sets:
        words += ["--set", each]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    lines = done.stdout.strip().splitlines()
    answer = json.loads(lines[-1]) if lines else {"error": {"message": done.stderr}}
    if "error" in answer:
        raise RuntimeError(answer["error"]["message"])
    return answer


def variants(pipeline):
    yield []
    with open(os.path.join(ROOT, "pipelines", pipeline + ".textproto")) as file:
        text = file.read()
        if "\ngraph {" in text:  # written by hand for its own ranks and stage
            return
    offloaded = "parameters {" in text  # parameters that lie elsewhere: stage 3 alone
    for world, stage in itertools.product([1, 2, 8, 64], [3] if offloaded else [0, 1, 2, 3]):
        if world > 1 or stage == 0:
            yield [f"parallel.data={world}", f"parallel.zero.stage={stage}"]


def main():
    names = sys.argv[1:] or sorted(
        f[:-len(".textproto")] for f in os.listdir(os.path.join(ROOT, "pipelines")) if f.endswith(".textproto"))
    times, memories = [], []
    print(f"{'pipeline':22} {'settings':44} {'step/bound':>10} {'placed/live':>11}")
    for name in names:
        for sets in variants(name):
            try:
                simulated, planned = ask("simulate", name, sets), ask("plan", name, sets)
            except RuntimeError as error:
                if not sets:
                    raise
                print(f"{name:22} {' '.join(sets):44} not possible: {str(error).splitlines()[0][:60]}")
                continue
            bound = simulated["lower_bound_seconds"]
            time = simulated["step_seconds"] / bound if bound > 0 else 1.0
            live = planned["live_bytes_bound"]["device"]
            memory = planned["peak_bytes"]["device"] / live if live else 1.0
            times.append(time)
            memories.append(memory)
            print(f"{name:22} {' '.join(sets) or 'as it is':44} {time:10.4f} {memory:11.4f}")
    print(f"{len(times)} plans: step/bound median {statistics.median(times):.4f} worst {max(times):.4f}; "
          f"placed/live median {statistics.median(memories):.4f} worst {max(memories):.4f}")
    good = statistics.median(times) <= MEDIAN_LIMIT and max(times) <= WORST_LIMIT and max(memories) <= MEMORY_LIMIT
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
