#!/usr/bin/env python3
"""One training step of the same model under Millrace and under PyTorch on the same GPU, alternately in one run; and the
fused AdamW of both beside a copy. Prints the medians and the ratio; --out FILE writes them as JSON.

  python3 gpu_peer.py --model vit_huge|vit_base|rat_optimized [--systems ours eager compile] [--rounds 3] [--steps 10]
  python3 gpu_peer.py --model adamw --kernels_benchmark PATH
  python3 gpu_peer.py --model vit_base --device cpu --small             # the same on a CPU, small

Models and batches are those of `millrace run vit_huge_gpu` and so on, parameter counts are compared. The ViTs are the
transformers package's. PyTorch trains as its users do in bf16: f32 parameters, autocast, fused AdamW ("eager"), the same through
torch.compile ("compile"), and, not by default, with parameters, gradients and moments all in bf16 ("pure_bf16"; it computes
something else, with 4 bytes of state for our 12). rat_optimized is in f32, as its package is. Ours starts anew each round;
PyTorch's systems are one process each, which waits in between with its cache given back. Each round's figure is the median
of its steps, after three that do not count; MFU counts the FLOPs of our plan for both.

Needs torch; transformers, or resolution-aware-transformer. What is missing is left out, and said. --seconds: no round is begun after
that time.
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)

ONE_RANK = ["parallel.data=1", "parallel.zero.stage=0", "checkpoint.save=false", "runtime.trace_steps=0"]
MODELS = {  # pipeline, batch, settings
    "vit_huge": ("vit_huge_gpu", 128, ONE_RANK),
    "vit_base": ("vit_base", 256, ONE_RANK + ["precision.mode=BF16", "data.synthetic_count=512"]),
    "rat_optimized": ("rat_timing", 1, ONE_RANK),
}
SMALL = {"vit_huge": ("vit_tiny", 8), "vit_base": ("vit_tiny", 8), "rat_optimized": ("rat_timing", 1)}
WARM = 3


class LeftOut(Exception):
    pass


# ---- PyTorch, in a process of its own: a line in says how many steps, a line out says how long they took


def vit(a, device):
    import torch
    import torch.nn.functional as F
    from torch_peer import build
    with torch.device(device):
        model, image, classes = build(a.torch_model)
    x = torch.randn(a.batch, 3, image, image, device=device)
    y = torch.randint(0, classes, (a.batch,), device=device)
    if a.worker == "pure_bf16":
        model, x = model.to(torch.bfloat16), x.to(torch.bfloat16)

    def loss():
        with torch.autocast(device, dtype=torch.bfloat16, enabled=a.worker != "pure_bf16"):
            return F.cross_entropy(model(pixel_values=x).logits, y)

    return list(model.parameters()), loss


def worker(a):
    import torch
    gpu = a.device == "cuda"
    if not gpu:
        torch.set_num_threads(1)  # as a rank of ours
    if a.model == "rat_optimized":
        from rat_peer import training
        parameters, loss = training(a.image, a.device)
    else:
        parameters, loss = vit(a, a.device)
    if a.worker == "compile":
        loss = torch.compile(loss)
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.01, fused=True)

    def step():
        loss().backward()
        if a.model == "rat_optimized":
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    def finished():
        if gpu:
            torch.cuda.synchronize()

    print(json.dumps({"parameters": sum(p.numel() for p in parameters)}), flush=True)
    for line in sys.stdin:
        times = []
        for _ in range(WARM + int(line)):
            finished()
            begin = time.perf_counter()
            step()
            finished()
            times.append(time.perf_counter() - begin)
        peak = torch.cuda.max_memory_allocated() if gpu else 0
        if gpu:
            torch.cuda.empty_cache()
        print(json.dumps({"seconds": statistics.median(times[WARM:]), "peak_bytes": peak}), flush=True)


class Torch:
    def __init__(self, a, system):
        command = [sys.executable, os.path.abspath(__file__), "--worker", system, "--model", a.model, "--device", a.device,
                   "--batch", str(a.batch), "--torch_model", a.torch_model, "--image", str(a.image)]
        self.err = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.err, text=True)
        self.parameters = self.answer()["parameters"]

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.err.seek(0)
            raise LeftOut((self.err.read().strip().splitlines() or ["it ended"])[-1][:300])
        return json.loads(line)

    def round(self, steps):
        try:
            self.process.stdin.write(f"{steps}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # answer() says why
        return self.answer()

    def close(self):
        self.process.kill()
        self.process.wait()


# ---- Ours


class Ours:
    def __init__(self, a):
        self.a, self.result, self.parameters = a, None, None  # until the first round

    def round(self, steps):
        a = self.a
        folder = tempfile.mkdtemp()
        sets = a.sets + [f"train.steps={WARM + steps}", f"train.micro_batch={a.batch}",
                         f"machine={'one_gpu' if a.device == 'cuda' else 'cpu_2_cores'}"]
        command = [a.millrace, "run", a.pipeline, "--json", "--quiet", "--folder", folder]
        for word in sets:
            command += ["--set", word]
        environment = {**os.environ, **({"LD_LIBRARY_PATH": a.library_path} if a.library_path else {})}
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
        shutil.rmtree(folder, ignore_errors=True)
        if done.returncode:
            raise LeftOut(f"exit {done.returncode}: {(done.stderr.strip().splitlines() or [''])[0][:300]}")
        self.result = r = json.loads(done.stdout.splitlines()[-1])
        self.parameters = r["config"]["parameters"]
        return {"seconds": r["step_seconds_median"], "peak_bytes": r["peak_bytes_measured"]["device"]}

    def close(self):
        pass


def summary(a, parameters, figures, left_out, peak_seconds):
    """peak_seconds: how long a step's FLOPs take at the device's peak."""
    told = {}
    for name, rows in figures.items():
        seconds = statistics.median(r["seconds"] for r in rows)
        told[name] = {"step_seconds": seconds, "images_per_second": a.batch / seconds, "rounds": len(rows),
                      "mfu": peak_seconds / seconds if peak_seconds else None, "peak_bytes": max(r["peak_bytes"] for r in rows)}
    others = [name for name in told if name != "ours"]
    result = {"model": a.torch_model if a.small else a.model, "batch": a.batch, "device": a.device, "steps": a.steps,
              "parameters": parameters, "systems": told, "left_out": left_out}
    if "ours" in told and others:
        result["ratios"] = {name: told["ours"]["images_per_second"] / told[name]["images_per_second"] for name in others}
        result["ratio"] = min(result["ratios"].values())
    return result


def train(a):
    systems, figures, left_out, result = {}, {}, {}, {}
    parameters = peak_seconds = None
    try:
        rounds = 0
        while rounds < a.rounds and (rounds == 0 or time.monotonic() < a.end):
            rounds += 1
            for name in a.systems:  # in turns, so that a change of the machine meets all of them
                if name in left_out:
                    continue
                try:
                    if rounds == 1:
                        systems[name] = Ours(a) if name == "ours" else Torch(a, name)
                    r = systems[name].round(a.steps)
                except LeftOut as why:
                    left_out[name] = str(why)
                    continue
                figures.setdefault(name, []).append(r)
                print(f"round {rounds} {name:10s} {a.batch / r['seconds']:9.2f} images/s", file=sys.stderr, flush=True)
                if parameters not in (None, systems[name].parameters):
                    sys.exit(f"not the same model: {name} has {systems[name].parameters} parameters, another {parameters}")
                parameters = systems[name].parameters
                if name == "ours":
                    peak_seconds = systems[name].result["mfu"] * systems[name].result["step_seconds_median"]
                result = summary(a, parameters, figures, left_out, peak_seconds)
                save(a, result)  # whoever started us may run out of time
    finally:
        for s in systems.values():
            s.close()
    if a.model == "rat_optimized" and not set(figures) - {"ours"}:
        result["skipped"] = f"no PyTorch beside ours: {left_out}"
    return result or {"left_out": left_out}


def save(a, result):
    if a.out:
        with open(a.out + ".new", "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)
        os.replace(a.out + ".new", a.out)


# ---- The optimizer


def adamw(a):
    import torch
    n = 1 << (22 if a.small else 28)
    gpu = a.device == "cuda"

    def seconds(call):
        times = []
        for i in range(13):
            if gpu:
                torch.cuda.synchronize()
            begin = time.perf_counter()
            call()
            if gpu:
                torch.cuda.synchronize()
            if i >= WARM:
                times.append(time.perf_counter() - begin)
        return statistics.median(times)

    theirs, copies, ours = [], [], []
    for _ in range(a.rounds):
        p = torch.nn.Parameter(torch.full((n,), 0.1, device=a.device))
        p.grad = torch.full((n,), 0.01, device=a.device)
        optimizer = torch.optim.AdamW([p], lr=1e-3, weight_decay=0.01, fused=True)
        target = torch.empty_like(p.grad)
        theirs.append(28 * n / seconds(optimizer.step) / 1e9)  # p, g, m, v read, p, m, v written, f32
        copies.append(8 * n / seconds(lambda: target.copy_(p.grad)) / 1e9)
        del p, optimizer, target
        if gpu:
            torch.cuda.empty_cache()
        if a.kernels_benchmark:
            environment = {**os.environ, **({"LD_LIBRARY_PATH": a.library_path} if a.library_path else {})}
            out = subprocess.run([a.kernels_benchmark, str(n)], env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
            rows = {row["name"]: row for row in (json.loads(line) for line in out.splitlines())}
            ours.append(rows["adamw, gradient f32"]["gb_per_s"])
    copy = statistics.median(copies)
    result = {"model": "adamw", "elements": n, "copy_gb_per_s": copy,
              "systems": {"torch fused": {"gb_per_s": statistics.median(theirs), "of_copy": statistics.median(theirs) / copy}}}
    if ours:
        result["systems"]["ours"] = {"gb_per_s": statistics.median(ours), "of_copy": statistics.median(ours) / copy}
        result["ratio"] = statistics.median(o / t for o, t in zip(ours, theirs))
    else:
        result["left_out"] = {"ours": "no --kernels_benchmark"}
    return result


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", default="vit_base", choices=[*MODELS, "adamw"])
    p.add_argument("--systems", nargs="+", default=["ours", "eager", "compile"], choices=["ours", "eager", "compile", "pure_bf16"])
    p.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    p.add_argument("--small", action="store_true", help="vit_tiny in the ViTs' place")
    p.add_argument("--batch", type=int, default=0)
    p.add_argument("--image", type=int, default=96, help="rat_optimized's, in pixels")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--steps", type=int, default=10)
    p.add_argument("--seconds", type=float, default=600)
    p.add_argument("--millrace", default=os.path.join(ROOT, "bazel-bin", "tools", "millrace"))
    p.add_argument("--library_path", default="", help="LD_LIBRARY_PATH of our programs")
    p.add_argument("--kernels_benchmark", default="")
    p.add_argument("--out", default="")
    p.add_argument("--worker", default="", help=argparse.SUPPRESS)
    p.add_argument("--torch_model", default="", help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.worker:
        worker(a)
        return 0
    a.end = time.monotonic() + a.seconds
    if a.model == "adamw":
        result = adamw(a)
    else:
        a.pipeline, batch, a.sets = MODELS[a.model]
        a.torch_model = a.model
        if a.small:
            a.torch_model, batch = SMALL[a.model]
            a.pipeline = a.torch_model
            a.sets = ONE_RANK + (["precision.mode=BF16"] if a.model != "rat_optimized" else [])
        if a.model == "rat_optimized":
            a.pipeline = "rat_timing"
            a.sets = a.sets + [f'model.arg[0].s="{a.image}"', "runtime.threads_per_rank=1"]
        a.batch = a.batch or batch
        result = train(a)
    for name, s in result.get("systems", {}).items():
        print(f"{name:12s} " + "  ".join(f"{k} {v:.4g}" for k, v in s.items() if v is not None))
    for name, ratio in result.get("ratios", {}).items():
        print(f"ours / {name}: {ratio:.2f} (above 1: ours is faster)")
    for name, why in result.get("left_out", {}).items():
        print(f"{name} left out: {why}")
    save(a, result)
    return 0 if result.get("systems") else 1


if __name__ == "__main__":
    sys.exit(main())
