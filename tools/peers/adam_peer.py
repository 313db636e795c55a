#!/usr/bin/env python3
"""Times AdamW on 100 M f32 parameters: our CPU kernel, torch's fused AdamW and DeepSpeed's CPU Adam, in turns in one
run; and our single pass of unscale + clip + step + bf16 copy beside torch's sequence of passes for the same result.

  PYTHON tools/peers/adam_peer.py [--rounds 7] [--benchmark PATH] [--threads 1 2]

PYTHON has torch and (for its rows) deepspeed, which builds its kernel at first use. --benchmark is our stopwatch,
default bazel-bin/ops/optimizer_kernels_benchmark (./bazelw build //ops:optimizer_kernels_benchmark).

Printed are medians over the rounds, GB/s at 28 bytes per parameter (p, g, m, v read; p, m, v written), and the
median over the rounds of peer's time / our time in that round. Every timed call is preceded by one that is not.
"""
import argparse, json, os, statistics, subprocess, sys, time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
N = 100_000_000
KW = dict(lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)


def seconds(call, repeats):
    call()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def ours(benchmark, threads):
    """{"f32": seconds, "fused": seconds, "of_stream": ...} of one short run of our stopwatch."""
    out = subprocess.run([benchmark, f"--benchmark_filter=AdamW/(f32|fused)/threads:{threads}/",
                          "--benchmark_min_time=0.5", "--benchmark_format=json"],
                         check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    rows = {b["name"].split("/")[1]: b for b in json.loads(out)["benchmarks"]}
    return {"f32": rows["f32"]["ms"] / 1e3, "fused": rows["fused"]["ms"] / 1e3,
            "f32 of stream": rows["f32"]["of_stream"], "fused of stream": rows["fused"]["of_stream"]}


class Peers:
    """The systems that can be imported here, by name: what to call for one update."""

    def __init__(self):
        import torch
        p = torch.nn.Parameter(torch.full((N,), 0.1))
        p.grad = torch.full((N,), 0.01)
        copy = torch.zeros(N, dtype=torch.bfloat16)
        fused = torch.optim.AdamW([p], fused=True, **KW)
        # Made before the timing: their states are 0.8 GB each.
        self.calls = {"torch fused": fused.step}
        found_inf, inverse_scale = torch.zeros(1), torch.full((1,), 1.0)
        clip = torch.tensor(1.0)

        # GradScaler.unscale_, clip_grad_norm_ (its multiplication: the norm is known on both sides), step, copy out.
        @torch.no_grad()
        def sequence():
            torch._amp_foreach_non_finite_check_and_unscale_([p.grad], found_inf, inverse_scale)
            torch._foreach_mul_([p.grad], clip)
            fused.step()
            copy.copy_(p)

        self.calls["torch sequence"] = sequence
        try:
            from deepspeed.ops.adam import DeepSpeedCPUAdam
            self.calls["deepspeed"] = DeepSpeedCPUAdam([p], adamw_mode=True, **KW).step
        except ImportError as e:
            print(f"deepspeed left out: {e}", file=sys.stderr)
        self.set_threads = torch.set_num_threads


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--rounds", type=int, default=7)
    a.add_argument("--repeats", type=int, default=5, help="timed updates of a peer per round")
    a.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    a.add_argument("--benchmark", default=os.path.join(ROOT, "bazel-bin/ops/optimizer_kernels_benchmark"))
    a = a.parse_args()
    if not os.access(a.benchmark, os.X_OK):
        sys.exit(f"no {a.benchmark}; ./bazelw build //ops:optimizer_kernels_benchmark makes it")
    peers = Peers()
    beside = {"torch fused": "f32", "deepspeed": "f32", "torch sequence": "fused"}
    for threads in a.threads:
        peers.set_threads(threads)
        rounds = []
        for _ in range(a.rounds):
            row = ours(a.benchmark, threads)
            row.update({name: seconds(call, a.repeats) for name, call in peers.calls.items()})
            rounds.append(row)
        print(f"{threads} thread{'s' if threads > 1 else ''}, medians of {a.rounds} rounds")
        for name in rounds[0]:
            values = [r[name] for r in rounds]
            median = statistics.median(values)
            if name.endswith("of stream"):
                print(f"  {name:16} {median:.2f}")
                continue
            line = f"  {name:16} {median * 1e3:7.1f} ms  {N * 28 / median / 1e9:6.1f} GB/s"
            if name in beside:
                ratio = statistics.median(r[name] / r[beside[name]] for r in rounds)
                line += f"   our {beside[name]} is {ratio:.2f}x as fast"
            print(line, flush=True)


if __name__ == "__main__":
    main()
