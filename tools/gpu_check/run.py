#!/usr/bin/env python3
"""Runs everything that needs a GPU - tests, trainings, timings, PyTorch beside them - in one call of under ten minutes.

  python3 run.py --out RESULTS [--seconds 540] [--only NAME,...] [--resume]
  python3 run.py --out RESULTS --cpu [--torch_lib FOLDER]       # a rehearsal on the CPU back end, small and short

RESULTS gets results.json - every item's status (passed, failed, skipped, timeout), seconds, figures, commands, the tail of
its output; rewritten after each item, so that a run that is cut short leaves what it had - and the traces, gzipped.
Items run in the order of their importance, each with a limit; once the time is over the rest is skipped and says so.
--resume runs what the results.json there does not have as passed. Exit code 1: something failed or ran out of its time.

Needs Python 3.10 and PyTorch of the version in pack.json; pack.py makes the folder around this file.
"""

import argparse
import json
import os
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from checks import items  # noqa: E402
from context import Context, Failed, Skipped, TimedOut  # noqa: E402


def run_item(c, name, seconds, function):
    begin = time.monotonic()
    c.item_end = min(c.end, begin + (4 if c.cpu else 1) * seconds)  # how slow a rehearsal's machine is says nothing
    c.commands, c.tail, c.traces = [], "", []
    result = {"name": name, "status": "passed", "figures": {}}
    try:
        if c.end - begin < 5:
            raise Skipped("no time was left")
        result["figures"] = function(c)
    except Skipped as why:
        result.update(status="skipped", why=str(why))
    except TimedOut as why:
        result.update(status="timeout", why=str(why))
    except Exception as why:  # one item's mistake must not cost the others
        result.update(status="failed", why=f"{'' if isinstance(why, Failed) else type(why).__name__ + ': '}{why}")
    result.update(seconds=round(time.monotonic() - begin, 2), limit_seconds=seconds, commands=c.commands, traces=c.traces,
                  tail=c.tail)
    return result


def headline(r):
    if r["status"] != "passed":
        return r["why"].splitlines()[0][:120]
    shown = {"top1": ".4f", "images_per_second": ".1f", "mfu": ".3f", "ratio": ".2f", "tests": "d", "device": "s", "model": "s"}
    return ", ".join(f"{k} {format(v, shown[k])}" for k, v in r["figures"].items() if k in shown and v is not None)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    parser.add_argument("--seconds", type=float, default=540, help="for all items together")
    parser.add_argument("--cpu", action="store_true", help="rehearse on the CPU back end")
    parser.add_argument("--only", default="", help="items that have one of these words in their names, comma-separated")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--torch_lib", default="", help="LibTorch's libraries; default: those of this Python's torch")
    a = parser.parse_args()
    os.makedirs(a.out, exist_ok=True)
    path = os.path.join(a.out, "results.json")
    before = {}
    if a.resume and os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            before = {r["name"]: r for r in json.load(file)["items"] if r["status"] == "passed"}
    c = Context(a)
    begin = time.time()
    results = []
    for name, seconds, function in items(c.pack):
        if a.only and not any(word in name for word in a.only.split(",")):
            continue
        results.append(before[name] if name in before else run_item(c, name, seconds, function))
        r = results[-1]
        print(f"{r['status']:8s} {r['seconds']:7.1f} s  {name:38s} {headline(r)}", flush=True)
        counts = {s: sum(x["status"] == s for x in results) for s in ("passed", "failed", "timeout", "skipped")}
        with open(path + ".new", "w", encoding="utf-8") as file:
            json.dump({"rehearsal": c.cpu, "seconds": round(time.time() - begin, 1), "pack": c.pack, **counts, "items": results}, file, indent=1)
        os.replace(path + ".new", path)
    bad = sum(r["status"] in ("failed", "timeout") for r in results)
    print(f"{len(results)} items, {sum(r['status'] == 'passed' for r in results)} passed, {bad} failed or out of time: {path}")
    return 1 if bad or not results else 0


if __name__ == "__main__":
    sys.exit(main())
