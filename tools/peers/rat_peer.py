#!/usr/bin/env python3
"""One training step of rat_optimized (18,984,197 parameters, dense attention, one scale, batch 1, f32) under Millrace
and under PyTorch with the published package, alternately in one run; prints the medians and the ratio.

  python3 tools/peers/rat_peer.py --python PATH [--image 96] [--rounds 5] [--steps 5] [--threads 2]

--python is an interpreter with torch and the package resolution-aware-transformer (pip install by that name). Same
model, image size, loss (0.5 BCE + 0.5 Dice), optimizer (AdamW, fused) and number of threads. At 128 px the package, whose
attention keeps every score, takes more than 21 GB. `--worker` is what it starts there.
"""
import argparse, json, os, statistics, subprocess, sys, tempfile, time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def package():
    try:
        from resolution_aware_transformer import ResolutionAwareTransformer
    except (ImportError, RuntimeError):
        # Of timm the package uses an MLP (and, not here, DropPath); timm itself wants a torchvision that fits the torch.
        for name in [m for m in sys.modules if m.split(".")[0] in ("timm", "torchvision", "resolution_aware_transformer",
                                                                   "spatial_grouping_attention")]:
            del sys.modules[name]
        import types
        from torch import nn

        class Mlp(nn.Module):
            def __init__(self, in_features, hidden_features=None, out_features=None, act_layer=nn.GELU, bias=True,
                         drop=0.0, **_):
                super().__init__()
                self.fc1 = nn.Linear(in_features, hidden_features or in_features, bias=bias)
                self.fc2 = nn.Linear(hidden_features or in_features, out_features or in_features, bias=bias)
                self.act, self.drop = act_layer(), nn.Dropout(drop)

            def forward(self, x):
                return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))

        timm, layers = types.ModuleType("timm"), types.ModuleType("timm.layers")
        layers.Mlp, layers.DropPath, timm.layers = Mlp, nn.Identity, layers
        sys.modules["timm"], sys.modules["timm.layers"] = timm, layers
        from resolution_aware_transformer import ResolutionAwareTransformer
    return ResolutionAwareTransformer


def training(size, device="cpu"):
    """(parameters, loss): the package's model with our head; loss() of one random image and mask."""
    import torch
    from torch import nn
    import torch.nn.functional as F
    torch.manual_seed(0)
    body = package()(feature_dims=256, num_blocks=4, num_heads=16, learnable_rose_scaling=False,
                     rose_initial_scaling=None).to(device)
    head = nn.Sequential(nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 1)).to(device)
    image = torch.randn(1, 3, size, size, device=device)
    mask = (torch.rand(1, 1, size, size, device=device) > 0.5).float()

    def loss():
        out = body([image], [(1.0, 1.0)])[0]
        grid = tuple(out["out_grid_shape"])
        logits = head(out["x_out"]).transpose(1, 2).reshape(1, 1, *grid)
        logits = F.interpolate(logits, size=(size, size), mode="bilinear", align_corners=False)
        p = logits.sigmoid()
        dice = 1 - (2 * (p * mask).sum() + 1e-6) / (p.sum() + mask.sum() + 1e-6)
        return 0.5 * F.binary_cross_entropy_with_logits(logits, mask) + 0.5 * dice

    return [*body.parameters(), *head.parameters()], loss


def worker(a):
    import torch
    torch.set_num_threads(a.threads)
    parameters, loss = training(a.image)
    count = sum(p.numel() for p in parameters)
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    times = []
    for _ in range(a.steps + 2):
        begin = time.perf_counter()
        step()
        times.append(time.perf_counter() - begin)
    print(json.dumps({"seconds": statistics.median(times[2:]), "parameters": count}))


def run(command):
    p = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
    if p.returncode:
        sys.exit(f"{' '.join(command)}: exit {p.returncode}\n{p.stderr.decode()[-2000:]}")
    return json.loads(p.stdout.decode().strip().splitlines()[-1])


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--python", default=sys.executable)
    ap.add_argument("--millrace", default=os.path.join(ROOT, "bazel-bin/tools/millrace"))
    ap.add_argument("--image", type=int, default=96)
    ap.add_argument("--rounds", type=int, default=5)
    ap.add_argument("--steps", type=int, default=5)
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--worker", action="store_true")
    a = ap.parse_args()
    if a.worker:
        return worker(a)
    size = [f"--image={a.image}", f"--steps={a.steps}", f"--threads={a.threads}"]
    ours, peer = [], []
    for _ in range(a.rounds):
        r = run([a.millrace, "run", "pipelines/rat_timing.textproto", "--json", "--quiet", "--folder", tempfile.mkdtemp(),
                 "--set", f"train.steps={a.steps + 2}", "--set", f'model.arg[0].s="{a.image}"',
                 "--set", f"runtime.threads_per_rank={a.threads}"])
        ours.append(r["step_seconds_median"])
        peer.append(run([a.python, os.path.abspath(__file__), "--worker"] + size)["seconds"])
        print(f"  ours {ours[-1]:.3f} s   torch {peer[-1]:.3f} s", file=sys.stderr)
    o, t = statistics.median(ours), statistics.median(peer)
    print(f"rat_optimized, {a.image} px, batch 1, {a.threads} threads: ours {o:.3f} s a step, PyTorch {t:.3f} s, "
          f"ratio {t / o:.2f} (above 1: ours is faster)")


if __name__ == "__main__":
    main()
