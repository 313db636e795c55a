"""What is checked on a machine with a GPU. Each check is a function of the context (context.py) that returns its figures, or raises
Failed, Skipped or TimedOut; run.py runs them in the order of items(). On the CPU back end each does the same, smaller.
"""

import importlib.util
import json
import os
import re
import shutil
import sys
import tempfile
import time

from context import Failed, GpuWatch, Skipped, TimedOut


def timing(r):
    """What a timed run says, with what was predicted."""
    step, simulated = r["step_seconds_median"], r["simulated_step_seconds"]
    figures = {"model": r["config"]["model"], "images_per_second": r["samples_per_second"], "step_seconds": step, "predicted_step_seconds": simulated,
               "step_over_predicted": step / simulated if simulated else None, "mfu": r["mfu"],
               "parameters": r["config"]["parameters"], "batch": r["config"]["global_batch"], "issue": r.get("issue")}
    for tier, planned in r["peak_bytes_predicted"].items():
        if planned:
            figures[f"{tier}_bytes_predicted"] = planned
            figures[f"{tier}_bytes_measured"] = r["peak_bytes_measured"][tier]
    return figures


def same_weights(runs):
    """runs: {what: result}. All must have come to the same bits."""
    hashes = {what: r["weights_sha256"] for what, r in runs.items()}
    if len(set(hashes.values())) != 1:
        raise Failed(f"the weights differ: {hashes}")
    return {"weights_sha256": next(iter(hashes.values())), "runs": list(hashes)}


# One rank with the batch of two; short.
SHORT = ["parallel.data=1", "train.micro_batch=100", "train.eval_every=0", "checkpoint.save=false", "runtime.trace_steps=0"]


def steps(c, gpu, cpu):
    return f"train.steps={cpu if c.cpu else gpu}"


ABOUT = """
import json, platform, torch
c = torch.cuda
d = {"python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda, "devices": c.device_count()}
if d["devices"]:
    p = c.get_device_properties(0)
    d.update(device=p.name, memory_bytes=p.total_memory, capability=f"{p.major}.{p.minor}", multiprocessors=p.multi_processor_count,
             nccl=".".join(map(str, c.nccl.version())), cudnn=torch.backends.cudnn.version())
print(json.dumps(d))
"""


def environment(c):
    figures = {"libraries": c.libraries, "packed_for_torch": c.pack["torch"], "kernel": os.uname().release,
               "cores": len(os.sched_getaffinity(0))}
    if importlib.util.find_spec("torch") is not None:
        figures.update(json.loads(c.sh([sys.executable, "-c", ABOUT], dict(os.environ)).splitlines()[-1]))
    if not c.cpu:
        if shutil.which("nvidia-smi") is None:
            raise Failed("there is no nvidia-smi here: no NVIDIA driver")
        query = "driver_version,clocks.max.sm,clocks.max.memory,power.limit,temperature.gpu"
        values = c.sh(["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]).strip().splitlines()[0].split(",")
        figures.update(zip(query.split(","), (v.strip() for v in values)))
        if not figures.get("devices"):
            raise Failed("PyTorch sees no GPU")
        if not c.pack["cuda"]:
            raise Failed("the pack was made without --config=cuda")
        if figures["torch"].split("+")[0] != c.pack["torch"]:
            raise Failed(f"PyTorch is {figures['torch']}, the programs were linked for {c.pack['torch']}")
    return figures


def packed_test(name):
    """A GoogleTest program; all of its tests must have run and passed."""
    def item(c):
        out = c.sh([c.program(name)])
        # Where the whole program was skipped for want of a device, GoogleTest's last line still says PASSED.
        ran = out.count("[       OK ]")
        if ran == 0 or re.search("skipped", out, re.I):
            if c.cpu:
                raise Skipped("its tests need a GPU")
            raise Failed("not all of its tests ran")
        return {"tests": ran}
    return item


def smoke(c):
    """The smallest program of the build: a kernel and its answer."""
    if c.cpu or "tools/bazel/cuda_smoke" not in c.pack["programs"]:
        raise Skipped("it needs a GPU")
    c.sh([c.program("tools/bazel/cuda_smoke")])
    return {}


def quickstart(c):
    """Real digits to the accuracy that the CPU reaches; in a rehearsal a tenth of the training."""
    sets = ["parallel.data=1", "train.micro_batch=100"] + (["train.steps=150", "train.eval_every=0"] if c.cpu else [])
    r, _ = c.train("digits_vit", sets, "digits_vit")
    wanted = 0.4 if c.cpu else 0.95
    if r["metrics"]["top1"] < wanted:
        raise Failed(f"accuracy {r['metrics']['top1']:.4f}, expected {wanted} or more")
    return {"top1": r["metrics"]["top1"], "wanted": wanted, **timing(r)}


def zero_stages(c):
    return same_weights({f"stage {s}": c.train("digits_vit", SHORT + [steps(c, 50, 3), f"parallel.zero.stage={s}"])[0] for s in range(4)})


def offload(c):
    more = {"all on the device": [], "optimizer on the host": ["memory.offload.optimizer.tier=HOST"],
            "optimizer and parameters on the host": ["memory.offload.optimizer.tier=HOST", "memory.offload.parameters.tier=HOST"]}
    common = SHORT + [steps(c, 50, 3), "parallel.zero.stage=3"]
    return same_weights({what: c.train("digits_vit", common + sets)[0] for what, sets in more.items()})


def cuda_graphs(c):
    if c.cpu:
        raise Skipped("there are no CUDA graphs on CPUs")
    common = SHORT + [steps(c, 50, 3)]
    plain = c.train("digits_vit", common)[0]
    graphs = c.train("digits_vit", common + ["runtime.cuda_graphs=true"])[0]
    if not graphs["issue"]["captured_runs"]:
        raise Failed("nothing was captured")
    return {**same_weights({"nodes one by one": plain, "CUDA graphs": graphs}), "plain": timing(plain), "graphs": timing(graphs)}


def precisions(c):
    """Sixteen bits train, and f16's loss scale is found."""
    figures = {}
    for mode in ("BF16", "F16"):
        r = c.train("digits_vit", SHORT + [steps(c, 100, 5), f"precision.mode={mode}"])[0]
        if r["loss_last"] is None or (not c.cpu and r["loss_last"] >= r["loss_first"]):
            raise Failed(f"{mode}: loss {r['loss_first']} -> {r['loss_last']}")
        figures[mode] = {"loss_first": r["loss_first"], "loss_last": r["loss_last"], "skipped_steps": r["skipped_steps"]}
    return figures


def losses_as_on_the_cpu(c):
    """The first steps of training beside the CPU back end's, in f32: products are summed in another order."""
    figures = {}
    small = ["parallel.data=1", "parallel.zero.stage=0", "checkpoint.save=false"]
    for pipeline, sets in (("digits_vit", SHORT), ("vit_tiny", small + ["train.micro_batch=4"]),
                           ("rat_timing", small + ['model.arg[0].s="32"', "runtime.threads_per_rank=1"])):
        losses = []
        for machine in ("cpu_2_cores", c.machine):
            folder = tempfile.mkdtemp(dir=c.work)
            r = c.millrace("run", pipeline, [*sets, steps(c, 10, 2), f"machine={machine}"], ["--quiet", "--losses", "--folder", folder])
            losses.append(r["losses"])
        figures[pipeline] = max(abs(x - y) / max(abs(x), 1e-6) for x, y in zip(*losses))
        if len(losses[0]) != len(losses[1]) or figures[pipeline] > 2e-3:
            raise Failed(f"{pipeline}: the losses are {figures[pipeline]:.2e} apart: {losses}")
    return {"largest_relative_difference": figures}


def timed(gpu, cpu, name, sets=()):
    """A timing pipeline of one GPU; in a rehearsal a small one with the same settings."""
    def item(c):
        watch = GpuWatch(not c.cpu)
        small = ["parallel.data=1", "parallel.zero.stage=0", "train.steps=5", "precision.mode=BF16", "checkpoint.save=false"]
        try:
            r, folder = c.train(cpu if c.cpu else gpu, (small if c.cpu else []) + list(sets), name)
        finally:
            seen = watch.figures()
        figures = {**timing(r), **seen}
        [run] = c.millrace("analyze", folder)["runs"]
        figures["exposed_copy_seconds_per_step"] = sum(x["exposed_copy_ns"] for x in run["ranks"]) * 1e-9 / max(1, len(run["steps"]))
        return figures
    return item


def graphs_of(gpu):
    def item(c):
        if c.cpu:
            raise Skipped("there are no CUDA graphs on CPUs")
        return timed(gpu, gpu, "vit_huge_gpu_graphs", ["runtime.cuda_graphs=true"])(c)
    return item


def kernels(c):
    """GB/s of the kernels beside a copy's, line by line as the benchmark prints it."""
    name = "ops/cuda/kernels_benchmark"
    if c.cpu or name not in c.pack["programs"]:
        raise Skipped("they need a GPU")
    lines = [json.loads(line) for line in c.sh([c.program(name)]).splitlines() if line.startswith("{")]
    if not lines:
        raise Failed("the benchmark printed nothing")
    return {line.pop("name"): line for line in lines}


def peers(model):
    def item(c):
        if importlib.util.find_spec("torch") is None:
            raise Skipped("this Python has no torch")
        out = os.path.join(c.work, f"{model}.json")
        command = [sys.executable, c.program("tools/peers/gpu_peer.py"), "--model", model, "--millrace", c.program("tools/millrace"),
                   "--device", "cpu" if c.cpu else "cuda", "--seconds", str(int(max(5, c.item_end - time.monotonic() - 10))),
                   "--out", out, "--library_path", c.environment["LD_LIBRARY_PATH"]]
        if c.cpu:
            command += ["--rounds", "1", "--steps", "2", "--small", "--image", "32", "--systems", "ours", "eager"]
        if model == "adamw" and not c.cpu and "ops/cuda/kernels_benchmark" in c.pack["programs"]:
            command += ["--kernels_benchmark", c.program("ops/cuda/kernels_benchmark")]
        complete = True
        try:
            c.sh(command, {**c.environment, "LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH", "")})
        except TimedOut:
            complete = False
            if not os.path.exists(out):
                raise
        with open(out, encoding="utf-8") as file:
            figures = {**json.load(file), "complete": complete}
        if not complete and "ratio" not in figures:
            raise TimedOut("no two systems came to an end")
        if "skipped" in figures:
            raise Skipped(figures["skipped"])
        return figures
    return item


def items(pack):
    """(name, seconds at most, function), in the order in which they are run."""
    tests = [p for p in pack["programs"] if p.endswith("_test")]
    return [("environment", 60, environment),
            ("smoke", 30, smoke),
            *[("test " + os.path.basename(p), 60, packed_test(p)) for p in tests],
            ("zero stages 0-3 same weights", 60, zero_stages),
            ("quickstart", 150, quickstart),
            ("vit_huge bf16", 120, timed("vit_huge_gpu", "vit_tiny", "vit_huge_gpu")),
            ("losses as on the CPU", 60, losses_as_on_the_cpu),
            ("offload same weights", 60, offload),
            ("cuda graphs same weights", 40, cuda_graphs),
            ("vit_huge bf16 optimizer on the host", 120, timed("vit_huge_gpu_offload", "vit_tiny", "vit_huge_gpu_offload",
                                                               ["memory.offload.optimizer.tier=HOST"])),
            ("kernels", 60, kernels),
            ("peer vit_huge", 150, peers("vit_huge")),
            ("peer vit_base", 90, peers("vit_base")),
            ("peer adamw", 40, peers("adamw")),
            ("peer rat_optimized", 60, peers("rat_optimized")),
            ("vit_huge bf16 cuda graphs", 100, graphs_of("vit_huge_gpu")),
            ("sixteen bits", 40, precisions)]
