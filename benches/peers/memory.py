#!/usr/bin/env python3
"""Memory of an NVIDIA GPU that networks take here and in PyTorch, as the driver counts it, and prints a table of ratios.

    python benches/peers/memory.py --program PROGRAM [--device vulkan] [--dtype f16] [--their-dtype bf16] [NAME ...]

Each case runs in a process of its own, after which the memory is back at what it was; both sides keep what they have once
asked for, so the figure is the most that was held. It has what a process needs before its first tensor. PROGRAM is the
program of `cargo bench --bench networks`, NAMEs are as `networks --list` prints them.
"""

import argparse
import multiprocessing
import subprocess
import time
from concurrent.futures import ProcessPoolExecutor

import networks


def used():
    """MiB of the device that are taken, by anyone."""
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return int(subprocess.run(query, check=True, capture_output=True, text=True).stdout.splitlines()[0])


def settled():
    """What is taken once it changes no more."""
    last = used()
    while True:
        time.sleep(1)
        now = used()
        if now == last:
            return now
        last = now


def here(arguments, name):
    side = networks.Here(arguments.program, arguments.device, arguments.dtype, False, arguments.threads, arguments.batch)
    before = settled()
    for _ in range(3):
        side.ask(name)
    taken = used() - before
    side.process.stdin.close()
    side.process.wait()
    return taken


def in_torch(arguments, name):
    before = settled()
    side = networks.There(False, arguments.their_dtype or arguments.dtype, False, False, False, arguments.batch)
    for _ in range(3):
        side.ask(name)
    return used() - before


def there(arguments, name):
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(in_torch, arguments, name).result()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True, help="this library's side, already built")
    parser.add_argument("--device", default="vulkan")
    parser.add_argument("--dtype", default="f16", choices=["f32", "f16", "bf16"])
    parser.add_argument("--their-dtype", choices=["f32", "f16", "bf16"], help="as --dtype by default")
    parser.add_argument("--batch", type=int, help="images in a batch")
    parser.add_argument("--threads", type=int, default=4)
    default = ["ddpm-unet forward", "ddpm-unet training step", "sd-unet forward"]
    parser.add_argument("names", nargs="*", default=default)
    arguments = parser.parse_args()
    print(f"MiB, {arguments.dtype} / torch {arguments.their_dtype or arguments.dtype}")
    print("| case | here | there | ratio |")
    print("|---|---|---|---|")
    for name in arguments.names:
        mine, theirs = here(arguments, name), there(arguments, name)
        print(f"| {name} | {mine:,} | {theirs:,} | {mine / theirs:.2f} |", flush=True)


if __name__ == "__main__":
    main()
