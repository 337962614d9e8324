#!/usr/bin/env python3
"""Times layers and networks here and in PyTorch or candle, in turn, and prints a table of ratios.

    python benches/peers/networks.py [--device flex] [--dtype f32] [--their-dtype f32] [--peer torch] [--rounds 7] [PART ...]

needs `torch`, and `diffusers` for the network of Stable Diffusion's size (`pip install torch diffusers`), and builds the
other side with `cargo bench` unless `--program` gives it. PARTs choose cases by a part of their name; `--without` leaves
some out. PyTorch runs on the CPU where this library does, and on the GPU otherwise, eagerly (`--compile`: compiled).
`--peer candle` builds `benches/peers/candle` and times that on the CPU instead. Rounds alternate between the sides, so that a machine that gets slower gets slower for both. Each round is as many calls
as take about 60 ms, at least one; the table has medians over the rounds, and the least and largest ratio of any round.
"""

import argparse
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

HERE = pathlib.Path(__file__).resolve().parent
PUBLISHED = HERE.parents[1] / "crates/langevin-models/tests/published"
ROUND = 0.06


def build(features):
    """Builds this library's side and returns its program."""
    command = ["cargo", "bench", "--bench", "networks", "--no-run", "--message-format=json", *features]
    output = subprocess.run(command, cwd=HERE, check=True, stdout=subprocess.PIPE, text=True).stdout
    messages = [json.loads(line) for line in output.splitlines()]
    return [m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == "networks"][-1]


class Here:
    """This library, in a process that waits for orders."""

    def __init__(self, program, device, dtype, small, threads, batch=None, keep=False, others=False):
        self.command = [program, "--bench", "--device", device, "--dtype", dtype] + ["--small"] * small + ["--others"] * others
        self.command += [] if batch is None else ["--batch", str(batch)]
        self.command += ["--keep-transforms"] * keep
        self.environment = dict(os.environ, RAYON_NUM_THREADS=str(threads))
        self.process = None

    def names(self):
        return subprocess.run(self.command + ["--list"], check=True, capture_output=True, text=True).stdout.splitlines()

    def ask(self, name):
        """The answer to a line: milliseconds of a round, and seconds of the first call."""
        if self.process is None or self.process.poll() is not None:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            self.process = subprocess.Popen(self.command + ["--serve"], env=self.environment, **pipes)
        print(name, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            self.process.wait()
            raise RuntimeError("the program ended")
        return json.loads(answer)

    def forget(self):
        if self.process is not None and self.process.poll() is None:
            print(file=self.process.stdin, flush=True)


class Candle(Here):
    """candle, in a process that waits for orders."""

    def __init__(self, threads):
        command = ["cargo", "build", "--release", "--message-format=json"]
        output = subprocess.run(command, cwd=HERE / "candle", check=True, stdout=subprocess.PIPE, text=True).stdout
        messages = [json.loads(line) for line in output.splitlines()]
        self.command = [[m["executable"] for m in messages if m.get("executable")][-1]]
        self.environment = dict(os.environ, RAYON_NUM_THREADS=str(threads))
        self.process = None

    def version(self):
        return "candle"


def timestep_features(time, width):
    half = width // 2
    frequencies = torch.exp(-torch.arange(half, device=time.device) * (torch.log(torch.tensor(10000.0)) / half))
    angles = time[:, None].float() * frequencies[None]
    return torch.cat([angles.cos(), angles.sin()], 1)


class Block(nn.Module):
    def __init__(self, cin, cout, time):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(32, cin), nn.GroupNorm(32, cout)
        self.conv1, self.conv2 = nn.Conv2d(cin, cout, 3, padding=1), nn.Conv2d(cout, cout, 3, padding=1)
        self.time = nn.Linear(time, cout)
        self.shortcut = nn.Conv2d(cin, cout, 1) if cin != cout else nn.Identity()

    def forward(self, x, time):
        h = self.conv1(F.silu(self.norm1(x))) + self.time(time)[:, :, None, None]
        return self.shortcut(x) + self.conv2(F.silu(self.norm2(h)))


class Residual(nn.Module):
    """A block that is told no time."""

    def __init__(self, channels):
        super().__init__()
        def half():
            return nn.GroupNorm(32, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1)
        self.branch = nn.Sequential(*half(), *half())

    def forward(self, x):
        return x + self.branch(x)


class SelfAttention(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm = nn.GroupNorm(32, channels)
        self.q, self.k, self.v, self.out = (nn.Linear(channels, channels) for _ in range(4))

    def forward(self, x):
        b, c, h, w = x.shape
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        q, k, v = (layer(tokens)[:, None] for layer in (self.q, self.k, self.v))
        y = self.out(F.scaled_dot_product_attention(q, k, v)[:, 0])
        return x + y.transpose(1, 2).reshape(b, c, h, w)


class Ddpm(nn.Module):
    """The network of Ho, Jain, Abbeel 2020 for CIFAR-10, 35.7 million parameters, as `benches/networks` builds it."""

    def __init__(self, channels=(128, 256, 256, 256), layers=2, attention=(1,)):
        super().__init__()
        first, time = channels[0], 4 * channels[0]
        self.time = nn.Sequential(nn.Linear(first, time), nn.SiLU(), nn.Linear(time, time), nn.SiLU())
        self.conv_in, skips, width = nn.Conv2d(3, first, 3, padding=1), [first], first
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, out in enumerate(channels):
            for _ in range(layers):
                block = nn.ModuleList([Block(width, out, time)])
                if level in attention:
                    block.append(SelfAttention(out))
                self.down.append(block)
                width = out
                skips.append(width)
            if level + 1 < len(channels):
                self.down.append(nn.ModuleList([nn.Conv2d(width, width, 3, stride=2, padding=1)]))
                skips.append(width)
        self.middle = nn.ModuleList([Block(width, width, time), SelfAttention(width), Block(width, width, time)])
        for level, out in reversed(list(enumerate(channels))):
            for _ in range(layers + 1):
                block = nn.ModuleList([Block(width + skips.pop(), out, time)])
                if level in attention:
                    block.append(SelfAttention(out))
                self.up.append(block)
                width = out
            if level > 0:
                upsample = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1))
                self.up.append(nn.ModuleList([upsample]))
        self.norm, self.conv_out = nn.GroupNorm(32, width), nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x, time):
        features = timestep_features(time, self.time[0].in_features).to(x.dtype)
        time, h = self.time(features), self.conv_in(x)
        skips = [h]
        for block in self.down:
            for layer in block:
                h = layer(h, time) if isinstance(layer, Block) else layer(h)
            skips.append(h)
        for layer in self.middle:
            h = layer(h, time) if isinstance(layer, Block) else layer(h)
        for block in self.up:
            if isinstance(block[0], Block):
                h = torch.cat([h, skips.pop()], 1)
            for layer in block:
                h = layer(h, time) if isinstance(layer, Block) else layer(h)
        return self.conv_out(F.silu(self.norm(h)))


# Channels, blocks of a level, images in a batch on the CPU and elsewhere, and their side.
SIZES = {
    "ddpm-unet": ((128, 256, 256, 256), 2, 4, 64, 32),
    "small-unet": ((64, 128), 1, 8, 8, 16),
    "unet-32-64-96": ((32, 64, 96), 1, 4, 4, 32),
    "unet-128-256-512": ((128, 256, 512), 1, 2, 2, 32),
    "unet-64-128-batch-1": ((64, 128), 1, 1, 1, 16),
}


def filtered(up):
    """Twice or half the size by the filter (1, 3, 3, 1), each channel by itself."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / (4 if up else 8)
    kernel = (taps[:, None] * taps[None])[None, None]
    def resample(x):
        b, c, h, w = x.shape
        convolve = F.conv_transpose2d if up else F.conv2d
        return convolve(x.reshape(b * c, 1, h, w), kernel.to(x), stride=2, padding=1).unflatten(0, (b, c))
    return resample


class There:
    """PyTorch."""

    def __init__(self, on_cpu, dtype, small, channels_last, compiled, batch=None):
        self.batch = batch
        self.on_cpu, self.small, self.compiled = on_cpu or small, small, compiled
        self.device = torch.device("cpu" if on_cpu else "cuda")
        self.dtype = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[dtype]
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.synchronize = (lambda: None) if on_cpu else torch.cuda.synchronize
        self.works = {}

    def random(self, *shape):
        return torch.randn(*shape, device=self.device).to(self.dtype)

    def forward(self, module, x):
        """A call without gradients."""
        def work():
            with torch.inference_mode():
                module(*x)
        return work

    def layer(self, module, shape, gradients):
        kept = {} if isinstance(module, nn.Conv3d) else {"memory_format": self.format}
        module = module.to(self.device, self.dtype, **kept)
        x = self.random(*shape)
        x = x.to(memory_format=self.format) if len(shape) == 4 else x
        if not gradients:
            return self.forward(module, (x,))
        factors = torch.randn_like(module(x))

        def work():
            module.zero_grad(set_to_none=True)
            (module(x.detach().requires_grad_()) * factors).sum().backward()
        return work

    def function(self, function, count, shape, gradients):
        """A function of tensors of one shape."""
        inputs = [self.random(*shape) for _ in range(count)]
        if not gradients:
            return self.forward(function, inputs)
        factors = torch.randn_like(function(*inputs))

        def work():
            tracked = [x.detach().requires_grad_() for x in inputs]
            (function(*tracked) * factors).sum().backward()
        return work

    def prepare(self, name):
        """What a name of `benches/networks --list` stands for, or None."""
        kind, *rest = name.split(" ", 1)
        rest = rest[0] if rest else ""
        shape = [int(n) for n in re.findall(r"\d+", rest.split("]")[0])]
        gradients = rest.endswith("gradients")
        known = r"\[[\d,]+\](?: to (\d+))?( gradients)?"
        output = int(to[1]) if (to := re.fullmatch(known, rest)) and to[1] else shape[1] if len(shape) > 1 else None
        if (conv := re.fullmatch(r"conv(\d)x\ds(\d)", kind)) and re.fullmatch(known, rest):
            kernel, stride = map(int, conv.groups())
            module = nn.Conv2d(shape[1], output, kernel, stride=stride, padding=(kernel - 1) // 2)
            return self.layer(module, shape, gradients)
        if kind == "groupnorm-silu" and re.fullmatch(known, rest):
            return self.layer(nn.Sequential(nn.GroupNorm(32, shape[1]), nn.SiLU()), shape, gradients)
        if kind in ("layernorm", "rmsnorm") and re.fullmatch(known, rest):
            return self.layer((nn.LayerNorm if kind == "layernorm" else nn.RMSNorm)(shape[2]), shape, gradients)
        if kind == "residual-block" and re.fullmatch(known, rest):
            return self.layer(Residual(shape[1]), shape, gradients)
        if (conv := re.fullmatch(r"conv(\d)", kind)) and re.fullmatch(known, rest):
            return self.layer(nn.Conv1d(shape[1], output, int(conv[1]), padding=int(conv[1]) // 2), shape, gradients)
        if (conv := re.fullmatch(r"conv(\d)x(\d)x(\d)", kind)) and re.fullmatch(known, rest):
            kernel = tuple(map(int, conv.groups()))
            module = nn.Conv3d(shape[1], output, kernel, padding=tuple((k - 1) // 2 for k in kernel))
            return self.layer(module, shape, gradients)
        if kind == "linear" and re.fullmatch(known, rest):
            return self.layer(nn.Linear(shape[2], shape[3]), shape[:3], gradients)
        if kind == "attention" and re.fullmatch(known, rest):
            return self.function(F.scaled_dot_product_attention, 3, shape, gradients)
        if kind == "attention-causal" and re.fullmatch(known, rest):
            attend = lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.function(attend, 3, shape, gradients)
        if kind == "attention-to-77" and re.fullmatch(known, rest):
            attend = lambda q: F.scaled_dot_product_attention(q, q[:, :, :77], q[:, :, :77])
            return self.function(attend, 1, shape, gradients)
        if kind == "resampling" and rest.startswith("filtered") and re.search(known, rest):
            return self.function(filtered("up" in rest), 1, shape, gradients)
        if kind == "resampling" and rest.startswith(("nearest up", "average down")):
            resample = (lambda x: F.interpolate(x, scale_factor=2)) if "up" in rest else (lambda x: F.avg_pool2d(x, 2))
            return self.function(resample, 1, shape, gradients)
        return self.network(kind, rest)

    def network(self, kind, rest):
        if kind == "sd-unet" and rest == "forward":
            import diffusers
            config = json.loads((PUBLISHED / "stable-diffusion-v1-5-unet.json").read_text())
            with torch.device(self.device):
                module = diffusers.UNet2DConditionModel.from_config(config).to(self.dtype).eval()
            batch = self.batch or (1 if self.on_cpu else 2)
            x, text = self.random(batch, 4, 64, 64), self.random(batch, 77, 768)
            module = torch.compile(module) if self.compiled else module
            return self.forward(lambda x, text: module(x, 500, text, return_dict=False), (x, text))
        if kind == "dit-384" and rest in ("forward", "training"):
            return self.dit(rest == "training")
        if kind == "vae-decoder":
            import diffusers
            config = json.loads((PUBLISHED / "sd-vae-ft-mse.json").read_text())
            module = diffusers.AutoencoderKL.from_config(config).to(self.device, self.dtype).eval()
            return self.forward(lambda z: module.decode(z, return_dict=False), (self.random(1, 4, 32, 32),))
        if kind not in SIZES or rest not in ("forward", "training step", "trainer, 20 steps", "50 forward"):
            return None
        torch.manual_seed(0)
        channels, layers, small_batch, batch, side = SIZES[kind]
        module = Ddpm(channels, layers)
        mixed = rest.startswith("trainer")
        module = module.to(self.device, torch.float32 if mixed else self.dtype, memory_format=self.format)
        batch = self.batch or (small_batch if self.on_cpu else batch)
        x = self.random(batch, 3, side, side).to(memory_format=self.format)
        steps = torch.arange(batch, device=self.device) * 997 % 1000
        run = torch.compile(module) if self.compiled else module
        if rest == "forward":
            return self.forward(run, (x, steps))
        if rest == "50 forward":
            def evaluate(x, steps):
                for _ in range(50):
                    x = run(x, steps)
            return self.forward(evaluate, (x, steps))
        if mixed:
            return self.trainer(module, run, x.float())
        optimizer, target = torch.optim.AdamW(module.parameters(), lr=1e-4, eps=1e-3), torch.randn_like(x)

        def step():
            optimizer.zero_grad(set_to_none=True)
            (run(x, steps) - target).float().square().mean().backward()
            optimizer.step()
        return step

    def dit(self, training):
        """DiT-S with six blocks."""
        import diffusers
        config = json.loads((PUBLISHED / "dit-xl-2-256.json").read_text())
        config |= {"num_layers": 6, "num_attention_heads": 6, "attention_head_dim": 64, "out_channels": 4}
        module = diffusers.DiTTransformer2DModel.from_config(config).to(self.device, self.dtype).eval()
        batch = self.batch or 8
        x, steps = self.random(batch, 4, 32, 32), torch.arange(batch, device=self.device) * 997 % 1000
        labels = torch.arange(batch, device=self.device)
        run = lambda x: module(x, steps, class_labels=labels, return_dict=False)[0]
        if not training:
            return self.forward(run, (x,))

        def step():
            module.zero_grad(set_to_none=True)
            run(x).float().square().mean().backward()
        return step

    def trainer(self, module, run, x):
        """Steps of training in mixed precision: weights in f32, clipping, AdamW, a moving average."""
        optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4)
        average = torch.optim.swa_utils.AveragedModel(module, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9999))
        scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        images = torch.randn(4 * len(x), *x.shape[1:])
        signal = torch.linspace(0.9999, 0.01, 1000, device=self.device).sqrt()

        def steps():
            for _ in range(20):
                clean = images[torch.randint(len(images), (len(x),))].to(self.device, memory_format=self.format)
                noise, time = torch.randn_like(clean), torch.randint(1000, (len(x),), device=self.device)
                alpha = signal[time, None, None, None]
                noisy = alpha * clean + (1 - alpha.square()).sqrt() * noise
                optimizer.zero_grad(set_to_none=True)
                with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
                    answer = run(noisy, time)
                loss = (answer.float() - noise).square().mean()
                scaler.scale(loss).backward()
                scaler.unscale_(optimizer)
                torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
                scaler.step(optimizer)
                scaler.update()
                average.update_parameters(module)
        return steps

    def ask(self, name):
        if name not in self.works:
            start = time.perf_counter()
            work = self.prepare(name)
            if work is None:
                self.works[name] = None
            else:
                work()
                self.synchronize()
                first = time.perf_counter() - start
                self.timed(work, 3)
                calls = max(1, min(200, int(ROUND / self.timed(work, 1)) + 1))
                self.works[name] = (work, calls, first)
        if self.works[name] is None:
            return None
        work, calls, first = self.works[name]
        return {"first": first, "rounds": [self.timed(work, calls) * 1e3]}

    def timed(self, work, calls):
        self.synchronize()
        start = time.perf_counter()
        for _ in range(calls):
            work()
        self.synchronize()
        return (time.perf_counter() - start) / calls

    def version(self):
        return f"torch {torch.__version__}"

    def forget(self):
        self.works.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def row(name, here, there):
    """A line of the table from the answers of both sides."""
    mine = [answer["rounds"][0] for answer in here]
    theirs = [answer["rounds"][0] for answer in there]
    cells = [name]
    for times in (mine, theirs):
        cells.append(f"{statistics.median(times):.3f}" if times else "–")
    if mine and theirs:
        ratios = [a / b for a, b in zip(mine, theirs)]
        cells.append(f"{statistics.median(mine) / statistics.median(theirs):.2f}")
        cells.append(f"{min(ratios):.2f} to {max(ratios):.2f}")
    else:
        cells += ["–", f"{min(mine):.3f} to {max(mine):.3f} ms" if mine else "–"]
    cells.append(" / ".join(f"{answers[0]['first']:.1f}" if answers else "–" for answers in (here, there)))
    return "| " + " | ".join(cells) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="flex")
    parser.add_argument("--dtype", default="f32", choices=["f32", "f16", "bf16"])
    parser.add_argument("--their-dtype", choices=["f32", "f16", "bf16"], help="as --dtype by default")
    parser.add_argument("--peer", default="torch", choices=["torch", "candle"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--program", help="this library's side, already built")
    parser.add_argument("--features", nargs="*", default=[], help="of cargo, as in `--features vulkan`")
    parser.add_argument("--small", action="store_true", help="batches for a processor, on any device")
    parser.add_argument("--keep-transforms", action="store_true", help="keep transforms of weights on this side")
    parser.add_argument("--others", action="store_true", help="other sizes than those that algorithms were chosen by, too")
    parser.add_argument("--batch", type=int, help="images in a batch of each network")
    parser.add_argument("--compile", action="store_true", help="networks through torch.compile")
    parser.add_argument("--channels-last", action="store_true", help="PyTorch's images in that memory format")
    parser.add_argument("--tf32", action="store_true", help="lets PyTorch multiply matrices in TF32 too")
    parser.add_argument("--without", nargs="*", default=[], help="leaves cases out")
    parser.add_argument("parts", nargs="*", help="parts of the names of cases (all by default)")
    arguments = parser.parse_args()
    on_cpu = arguments.device in ("flex", "cpu", "ndarray")
    torch.set_num_threads(arguments.threads)
    torch.backends.cuda.matmul.allow_tf32 = arguments.tf32
    features = [f"--features={','.join(arguments.features)}"] if arguments.features else []
    program = arguments.program or build(features)
    here = Here(
        program, arguments.device, arguments.dtype, arguments.small, arguments.threads, arguments.batch, arguments.keep_transforms,
        arguments.others,
    )
    dtype = arguments.their_dtype or arguments.dtype
    if arguments.peer == "candle":
        if not on_cpu or (arguments.their_dtype or arguments.dtype) != "f32" or arguments.compile:
            parser.error("candle is timed on the CPU, in f32")
        there = Candle(arguments.threads)
    else:
        there = There(on_cpu, dtype, arguments.small, arguments.channels_last, arguments.compile, arguments.batch)

    machine = (platform.processor() or platform.machine()) if on_cpu else torch.cuda.get_device_name()
    print(f"{machine}, {arguments.threads} threads; {arguments.device} {arguments.dtype} / {there.version()} {dtype}")
    print(f"{arguments.rounds} rounds, milliseconds: medians, their ratio, ratios of all rounds; seconds of the first call")
    print("| case | here | there | ratio | least to largest | first call |")
    print("|---|---|---|---|---|---|")
    for name in here.names():
        chosen = not arguments.parts or any(part in name for part in arguments.parts)
        if not chosen or any(part in name for part in arguments.without):
            continue
        answers = {here: [], there: []}
        for round in range(arguments.rounds):
            # Who goes first alternates too.
            for side in (here, there) if round % 2 == 0 else (there, here):
                try:
                    answer = side.ask(name)
                except (RuntimeError, json.JSONDecodeError) as error:
                    print(f"{name}: {error}", file=sys.stderr)
                    answer = None
                if answer is not None:
                    answers[side].append(answer)
                # Threads of the last side that wait busily have gone to sleep.
                time.sleep(0.02)
            if round == 0 and not answers[here]:
                break
        print(row(name, answers[here], answers[there]), flush=True)
        here.forget()
        there.forget()


if __name__ == "__main__":
    main()
