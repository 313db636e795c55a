#!/usr/bin/env python3
"""One training run of a plain ViT under PyTorch, DDP, FSDP2 or DeepSpeed, timed; what compare.py starts. Prints one JSON
line: system, images_per_s (median step of the slowest rank), seconds_to_first_step (from process start).

Needs torch and transformers, and deepspeed for zero1..3; not a part of the product's own dependencies.
"""
import argparse, json, os, statistics, subprocess, sys, tempfile, time

MODELS = {  # image, patch, hidden, layers, heads, classes: as models/vit.cc
    "vit_tiny": (32, 4, 192, 12, 3, 100),
    "vit_small": (64, 8, 384, 12, 6, 100),
    "vit_base": (224, 16, 768, 12, 12, 100),
    "vit_huge": (224, 14, 1280, 32, 16, 101),
}


def hide_unfit_torchvision():
    """A torchvision made for another torch fails when it is imported, and with it transformers, which can do without."""
    try:
        import torchvision
    except (ImportError, RuntimeError):
        for module in [m for m in sys.modules if m.split(".")[0] == "torchvision"]:
            del sys.modules[module]
        sys.modules["torchvision"] = None  # not to be found


def build(name):
    hide_unfit_torchvision()
    from transformers import ViTConfig, ViTForImageClassification
    image, patch, hidden, layers, heads, classes = MODELS[name]
    config = ViTConfig(image_size=image, patch_size=patch, hidden_size=hidden, num_hidden_layers=layers,
                       num_attention_heads=heads, intermediate_size=4 * hidden, num_labels=classes,
                       hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    config._attn_implementation = "sdpa"
    return ViTForImageClassification(config), image, classes


def rank_main(a):
    import torch
    import torch.nn.functional as F
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, image, classes = build(a.model)
    x = torch.randn(a.batch, 3, image, image)
    y = torch.randint(0, classes, (a.batch,))
    adam = dict(lr=1e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
    if a.system.startswith("zero"):
        import deepspeed
        deepspeed.init_distributed("gloo", verbose=False)
        engine, *_ = deepspeed.initialize(
            model=model, optimizer=torch.optim.AdamW(model.parameters(), fused=True, **adam),
            config={"train_micro_batch_size_per_gpu": a.batch, "gradient_accumulation_steps": 1,
                    "zero_optimization": {"stage": int(a.system[4:]), "overlap_comm": True, "contiguous_gradients": True},
                    "zero_allow_untested_optimizer": True, "steps_per_print": 10**9})

        def step():
            engine.backward(F.cross_entropy(engine(pixel_values=x).logits, y))
            engine.step()
    else:
        if a.system != "single":
            torch.distributed.init_process_group("gloo")
        if a.system == "ddp":
            model = torch.nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)
        elif a.system == "fsdp2":
            from torch.distributed.device_mesh import init_device_mesh
            from torch.distributed.fsdp import fully_shard
            mesh = init_device_mesh("cpu", (a.world,))
            for block in [m for m in model.modules() if type(m).__name__ == "ViTLayer"]:
                fully_shard(block, mesh=mesh)
            fully_shard(model, mesh=mesh)
        optimizer = torch.optim.AdamW(model.parameters(), fused=True, **adam)

        def step():
            F.cross_entropy(model(pixel_values=x).logits, y).backward()
            optimizer.step()
            optimizer.zero_grad()
    times = []
    for i in range(a.steps + 2):
        begin = time.perf_counter()
        step()
        times.append(time.perf_counter() - begin)
        if i == 0:
            first = time.time() - a.started
    with open(f"{a.out}.{a.rank}", "w") as f:
        json.dump({"t": statistics.median(times[2:]), "first": first}, f)
    if a.system != "single":
        torch.distributed.destroy_process_group()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--system", required=True, choices=["single", "ddp", "fsdp2", "zero1", "zero2", "zero3"])
    p.add_argument("--model", default="vit_tiny", choices=sorted(MODELS))
    p.add_argument("--world", type=int, default=2)
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--steps", type=int, default=8)
    p.add_argument("--port", default="29511")
    p.add_argument("--rank", type=int, default=-1)
    p.add_argument("--out", default="")
    p.add_argument("--started", type=float, default=0)
    a = p.parse_args()
    if a.rank >= 0:
        return rank_main(a)
    if a.system == "single":
        a.world = 1
    out = os.path.join(tempfile.mkdtemp(), "rank")
    ranks = []
    for r in range(a.world):
        env = dict(os.environ, RANK=str(r), LOCAL_RANK=str(r), WORLD_SIZE=str(a.world), LOCAL_WORLD_SIZE=str(a.world),
                   MASTER_ADDR="127.0.0.1", MASTER_PORT=a.port, OMP_NUM_THREADS="1", DS_ACCELERATOR="cpu")
        ranks.append(subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), "--system", a.system, "--model", a.model, "--world", str(a.world),
             "--batch", str(a.batch), "--steps", str(a.steps), "--rank", str(r), "--out", out, "--started", str(time.time())],
            env=env, stdout=subprocess.DEVNULL, stderr=open(f"{out}.err{r}", "w")))
    codes = [q.wait() for q in ranks]
    if any(codes):
        sys.exit(f"{a.system}: ranks exited {codes}: " + open(f"{out}.err0").read()[-500:])
    results = [json.load(open(f"{out}.{r}")) for r in range(a.world)]
    slowest = max(r["t"] for r in results)
    print(json.dumps({"system": a.system, "images_per_s": a.world * a.batch / slowest,
                      "seconds_to_first_step": max(r["first"] for r in results)}))


if __name__ == "__main__":
    main()
