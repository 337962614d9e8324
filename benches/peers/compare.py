#!/usr/bin/env python3
"""Times solver steps and noise here and in diffusers and torch, in turn, and prints a table of ratios.

    python benches/peers/compare.py [--rounds 40] [--limit 1.2] [NAME ...]

needs `torch`, `diffusers` and, for the cosine DPM-Solver, `torchsde` (`pip install torch diffusers torchsde`), and
builds the other side with `cargo bench`. That solver draws from a Brownian tree there, which takes it longer than all
others together: name the others to leave it out. The network costs nothing on either side: one tensor is the answer
to every question. Both sides run the solvers of `benches/solvers.json`, 50 steps on [16, 4, 64, 64] in f32, and 20
times `torch.randn` runs against seeded noise of [64, 3, 32, 32]. Runs alternate between the sides, so that a machine
that gets slower gets slower for both. Each step is timed alone: the table has the mean over the steps of a run of the
least and of the median time that the step took in any round, and the ratios. The least times are those of a machine
that did nothing else. With `--limit` it fails if any ratio of least times is above that (noise: 1.25 times that).
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import time

HERE = pathlib.Path(__file__).resolve().parent
STEPS = 50


def build():
    """Builds this library's side and returns its program."""
    command = ["cargo", "bench", "--bench", "peers", "--no-run", "--message-format=json"]
    output = subprocess.run(command, cwd=HERE, check=True, stdout=subprocess.PIPE, text=True).stdout
    messages = [json.loads(line) for line in output.splitlines()]
    programs = [m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == "peers"]
    return programs[-1]


class Here:
    """This library, in a process that waits for orders."""

    def __init__(self):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([build(), "--bench"], **pipes)

    def measure(self, name):
        print(name, file=self.process.stdin, flush=True)
        return [float(time) for time in self.process.stdout.readline().split()]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class There:
    """torch and diffusers."""

    def __init__(self, solvers, threads):
        import diffusers
        import torch

        torch.set_num_threads(threads)
        self.torch = torch
        self.versions = f"torch {torch.__version__}, diffusers {diffusers.__version__}"
        self.schedulers = {}
        for name, config in solvers.items():
            config = dict(config)
            scheduler = getattr(diffusers, config.pop("_class_name"))
            self.schedulers[name] = scheduler(**config)
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(16, 4, 64, 64, generator=generator)
        self.output = torch.randn(16, 4, 64, 64, generator=generator)

    def measure(self, name):
        with self.torch.no_grad():
            return self.noise() if name == "noise" else self.run(self.schedulers[name])

    def noise(self):
        times = []
        for _ in range(20):
            start = time.perf_counter()
            self.torch.randn(64, 3, 32, 32)
            times.append((time.perf_counter() - start) * 1e3)
        return times

    def run(self, scheduler):
        scheduler.set_timesteps(STEPS)
        x = self.x * getattr(scheduler, "init_noise_sigma", 1.0)
        times = []
        for t in scheduler.timesteps:
            start = time.perf_counter()
            scheduler.scale_model_input(x, t)
            x = scheduler.step(self.output, t, x).prev_sample
            times.append((time.perf_counter() - start) * 1e3)
        return times


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--limit", type=float, help="the largest ratio of least times that passes")
    parser.add_argument("names", nargs="*", help="solvers of solvers.json, or noise (all by default)")
    arguments = parser.parse_args()
    solvers = json.loads((HERE.parent / "solvers.json").read_text())
    known = [*solvers, "noise"]
    names = arguments.names or known
    if unknown := [name for name in names if name not in known]:
        parser.error(f"there is no {', '.join(unknown)}: take some of {', '.join(known)}")
    here, there = Here(), There(solvers, arguments.threads)
    sides = {"here": here, "there": there}
    times = {(name, side): [] for name in names for side in sides}
    for round in range(arguments.rounds + 1):
        for name in names:
            # Who goes first alternates too.
            for side in sorted(sides, reverse=round % 2 == 1):
                found = sides[side].measure(name)
                if round > 0:  # The first round warms up.
                    times[name, side].append(found)
                # Threads of the last side that wait busily have gone to sleep.
                time.sleep(0.15)
    here.close()

    print(f"{platform.processor() or platform.machine()}, {arguments.threads} threads, {there.versions}")
    print(f"{arguments.rounds} rounds, milliseconds a step (here / there): least, median")
    print("| case | least | ratio | median | ratio |")
    print("|---|---|---|---|---|")
    above = []
    for name in names:
        row = [name]
        for of in (min, statistics.median):
            # A step is compared with itself in other rounds: first steps do less than later ones.
            mine, theirs = (statistics.mean(of(step) for step in zip(*times[name, side])) for side in sides)
            row += [f"{mine:.3f} / {theirs:.3f}", f"{mine / theirs:.2f}"]
            if of is min and arguments.limit and mine / theirs > arguments.limit * (1.25 if name == "noise" else 1):
                above.append(name)
        print("| " + " | ".join(row) + " |", flush=True)
    if above:
        raise SystemExit(f"above the limit of {arguments.limit}: {', '.join(above)}")


if __name__ == "__main__":
    main()
