#!/usr/bin/env python3
"""Times one training step of a plain ViT under Millrace and under the systems a user would pick instead - PyTorch
alone, DDP, FSDP2, DeepSpeed ZeRO 1-3 - alternately in one run, and prints the table and the ratios.

  python3 tools/peers/compare.py --model vit_tiny --rounds 3 [--python PATH] [--millrace PATH] [--systems ...]

--python is an interpreter with torch, transformers and (for zero1..3) deepspeed; peers without it are left out.
--millrace is the binary, default bazel-bin/tools/millrace (./bazelw build //tools:millrace).

Every rank computes with one thread. Peers' ranks are processes joined by Gloo on loopback, as PyTorch users run CPU
ranks; ours are threads of one process. Model, batch, optimizer (AdamW) and data shapes are the same; synthetic images.
The bound ("2 x alone") is two processes of our single rank running at the same time without talking to each other.
Figures are images per second over all ranks; medians over the rounds of each run's median step.
"""
import argparse, json, os, statistics, subprocess, sys, tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BATCH = {"vit_tiny": 8, "vit_small": 4, "vit_base": 2}
OURS = ["ours_single", "2 x alone", "ours_0", "ours_1", "ours_2", "ours_3"]
PEERS = ["single", "ddp", "fsdp2", "zero1", "zero2", "zero3"]


def command(a, world, stage):
    return [a.millrace, "run", os.path.join(ROOT, "pipelines", a.model + ".textproto"), "--json", "--quiet",
            "--folder", tempfile.mkdtemp(), "--set", f"train.steps={a.steps + 2}", "--set", f"parallel.data={world}",
            "--set", f"parallel.zero.stage={stage}", "--set", "runtime.threads_per_rank=1",
            "--set", "runtime.trace_steps=0"]


def result(process):
    out, _ = process.communicate()
    if process.returncode:
        sys.exit(f"{process.args}: exit {process.returncode}")
    return json.loads(out.decode().strip().splitlines()[-1])


def start(args):
    return subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT)


def ours(a, system):
    if system == "2 x alone":
        runs = [result(p) for p in [start(command(a, 1, 0)) for _ in range(2)]]
        return {"img_s": sum(r["samples_per_second"] for r in runs), "first": max(r["seconds_to_first_step"] for r in runs)}
    single = system == "ours_single"
    r = result(start(command(a, 1 if single else a.world, 0 if single else int(system[-1]))))
    return {"img_s": r["samples_per_second"], "first": r["seconds_to_first_step"]}


def peer(a, system):
    p = subprocess.run([a.python, os.path.join(HERE, "torch_peer.py"), "--system", system, "--model", a.model,
                        "--world", str(a.world), "--batch", str(BATCH[a.model]), "--steps", str(a.steps),
                        "--port", str(29600 + os.getpid() % 300)],
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if p.returncode:
        print(f"  {system}: left out: {p.stderr.decode().strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    d = json.loads(p.stdout.decode().strip().splitlines()[-1])
    return {"img_s": d["images_per_s"], "first": d["seconds_to_first_step"]}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", default="vit_tiny", choices=sorted(BATCH))
    p.add_argument("--world", type=int, default=2)
    p.add_argument("--steps", type=int, default=8)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--python", default=sys.executable)
    p.add_argument("--millrace", default=os.path.join(ROOT, "bazel-bin", "tools", "millrace"))
    p.add_argument("--systems", nargs="*", default=OURS + PEERS)
    a = p.parse_args()
    figures = {s: [] for s in a.systems}
    for i in range(a.rounds):
        for s in a.systems:  # in turns, so that a change of the machine's load meets all of them
            r = ours(a, s) if s in OURS else peer(a, s)
            if r:
                figures[s].append(r)
                print(f"round {i + 1} {s:12s} {r['img_s']:8.2f} img/s  first step after {r['first']:.2f} s", file=sys.stderr)
    med = {s: statistics.median(x["img_s"] for x in v) for s, v in figures.items() if v}
    first = {s: statistics.median(x["first"] for x in v) for s, v in figures.items() if v}
    bound, ddp, alone = med.get("2 x alone"), med.get("ddp"), med.get("single")
    print(f"{a.model}, batch {BATCH[a.model]} per rank, {a.world} ranks, one thread per rank, medians of {a.rounds} rounds")
    print(f"{'system':12s} {'img/s':>8s} {'/ 2 x alone':>12s} {'/ DDP':>7s} {'/ torch':>8s} {'first step s':>13s}")
    for s in a.systems:
        if s not in med:
            continue
        ratio = lambda base: f"{med[s] / base:.2f}" if base else "-"
        print(f"{s:12s} {med[s]:8.2f} {ratio(bound):>12s} {ratio(ddp):>7s} {ratio(alone):>8s} {first[s]:13.2f}")
    print(json.dumps({"model": a.model, "images_per_second": med, "seconds_to_first_step": first}))


main()
