#!/usr/bin/env python3
"""Measures mlctl against the Docker CLI with the same Dockerfile, as ratios in one run on this machine.

    python3 benches/docker.py [--quick] [--only NAME[,NAME]] [MLCTL]

MLCTL is the binary (default: target/*/dist/mlctl). Needs a Docker engine with `debian:bookworm-slim`. `docker build` is the
builder that the CLI has: without buildx the classic one. Everything is in turn, round by round; medians are compared.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from compare import Bench, arguments, peak_memory

PROJECT = "mlctl-bench"
IMAGE = "mlctl-bench:docker"
DOCKERFILE = "FROM debian:bookworm-slim\nRUN echo made > /made\n"


def docker(*arguments, cwd="/"):
    ended = subprocess.run(["docker", *arguments], cwd=cwd, capture_output=True, text=True)
    if ended.returncode != 0:
        sys.exit(f"docker {arguments}: {ended.stderr}")
    return ended.stdout.split()


def project(bench, name, spec, files):
    """A project whose environment is built from its own Dockerfile, with this many files of this size beside it."""
    here = bench.fresh(name)
    (here / "mlctl.toml").write_text(f'[project]\nname = "{PROJECT}"\n{spec}')
    count, size = files
    for i in range(count):
        folder = here / f"image/data/d{i // 200}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"f{i}").write_bytes(os.urandom(size))
    (here / "image").mkdir(exist_ok=True)
    (here / "image/Dockerfile").write_text(DOCKERFILE + ("COPY data /data\n" if count else ""))
    return here, bench.env(here)


BUILT = ('[environments.default]\nbuild = { dockerfile = "image/Dockerfile" }\n'
         '[steps.s]\nsources = ["step.sh"]\ncommand = ["sh", "step.sh"]\noutputs.x = { at = "x", export = "read" }\n')


def unchanged(bench, files):
    """An environment that is as it was: one look-up, against a build whose every layer is cached."""
    here, env = project(bench, "unchanged", BUILT, files)
    mlctl = [bench.mlctl, "build", "-q"]
    cli = ["docker", "build", "-q", "-t", IMAGE, "image"]
    for argv in (mlctl, cli):
        subprocess.run(argv, cwd=here, env=env, check=True, capture_output=True)
    time.sleep(1)  # what was written in the last tick of the clock cannot be trusted by its stamp
    subprocess.run(mlctl, cwd=here, env=env, check=True, capture_output=True)
    bench.rows(f"an unchanged environment, context of {files[0]} files of {files[1]} bytes", {
        "docker build": lambda: (cli, here, env),
        "mlctl build": lambda: (mlctl, here, env),
    }, "docker build")


def edited(bench):
    """From the edit of a source file to when a step that has it runs, which is when it reads the clock."""
    here, env = project(bench, "edited", BUILT, (0, 0))
    (here / "copied").mkdir()
    (here / "copied/Dockerfile").write_text(DOCKERFILE + "WORKDIR /work\nCOPY step.sh /work\n")
    tools = {
        "docker build, run": (here / "copied/step.sh", ["sh", "-c", (
            f"docker build -q -t {IMAGE} copied >/dev/null && docker run --rm {IMAGE} sh step.sh")]),
        "mlctl run": (here / "step.sh", ["sh", "-c", (
            f"{bench.mlctl} run -q --context docker && cat read")]),
    }
    samples = {name: [] for name in tools}
    for number in range(bench.rounds + 1):
        for name, (source, argv) in tools.items():
            start = time.time()
            source.write_text(f"date +%s.%N | tee x # {number}\n")
            ended = subprocess.run(argv, cwd=here, env=env, capture_output=True, text=True)
            if ended.returncode != 0:
                sys.exit(f"{argv}: {ended.stderr}")
            samples[name].append(float(ended.stdout.split()[-1]) - start)
    medians = {name: statistics.median(times[1:]) for name, times in samples.items()}
    print("\n## edit of a source file to its step running, ms")
    for name, median in medians.items():
        print(f"{name:<22}{median * 1e3:>10.1f}{median / medians['docker build, run']:>8.2f}", flush=True)


def steps(bench, count=100):
    """Trivial steps, two at a time, against a shell loop of the same containers."""
    here = bench.fresh("steps")
    (here / "mlctl.toml").write_text(
        f'[project]\nname = "{PROJECT}"\n[steps.s]\nmatrix.i = {list(range(count))}\ncommand = ["true"]\n')
    env = bench.env(here)
    mlctl = [bench.mlctl, "run", "-q", "--context", "docker", "-j", "2", "--force", "s"]
    loop = f"seq {count} | xargs -P2 -I{{}} docker run --rm debian:bookworm-slim true"
    subprocess.run(mlctl, cwd=here, env=env, check=True, capture_output=True)
    bench.rows(f"{count} trivial steps, 2 at a time", {
        "docker run --rm": lambda: (["sh", "-c", loop], here, env),
        "mlctl run": lambda: (mlctl, here, env),
    }, "docker run --rm")


def memory(bench):
    """The peak of a build whose context has 2 GiB, and of one with 100,000 files."""
    print("\n## peak memory, MiB")
    for files in ((128, 16 << 20), (100_000, 100)):
        here, env = project(bench, "memory", BUILT, files)
        peak = peak_memory([bench.mlctl, "build", "-q"], here, env)
        again = peak_memory([bench.mlctl, "build", "-q"], here, env)
        print(f"{files[0]:>7} files of {files[1]} bytes: {peak:.1f} building, {again:.1f} with nothing to do", flush=True)
        shutil.rmtree(here)
        remove_images()


def remove_images():
    found = docker("images", "-q", "--filter", f"label=dev.mlctl.project={PROJECT}")
    found += docker("images", "-q", IMAGE)
    if found:
        docker("rmi", "-f", *set(found))


def main():
    args = arguments(__doc__, "one round")
    mlctl = args.mlctl
    root = Path(tempfile.mkdtemp(prefix="mlctl-bench-", dir=os.environ.get("TMPDIR", "/var/tmp")))
    bench = Bench(mlctl, 1 if args.quick else 9, root)
    parts = {
        "unchanged": lambda: unchanged(bench, (10, 1000)),
        "unchanged-large": lambda: unchanged(bench, (2000, 50_000)),
        "edited": lambda: edited(bench),
        "steps": lambda: steps(Bench(mlctl, min(bench.rounds, 5), root)),
        "memory": lambda: memory(bench),
    }
    try:
        for part in args.only.split(",") if args.only else parts:
            parts[part]()
    finally:
        remove_images()
        subprocess.run(["chmod", "-R", "u+w", root])
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
