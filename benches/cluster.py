#!/usr/bin/env python3
"""Measures mlctl on a cluster against Argo Workflows alone and kubectl, as ratios in one run.

    source "$(tests/testbed/cluster/up)" && python3 benches/cluster.py [--quick] [--only NAME[,NAME]] [MLCTL]

MLCTL is the binary (default: target/*/dist/mlctl). Runs go to the contexts `kind` and `cloud` of the test bed. Everything is
in turn, round by round; medians are compared. Of 1,000 bare pods only 200 are started, and 5 times their time is taken.
"""

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from compare import Bench, arguments, peak_memory

IMAGE = "debian:bookworm-slim"
BASE = f'[project]\nname = "mlctl-bench"\nbase-images.plain = "{IMAGE}"\n'


class Place:
    """One of the test bed's contexts, and a directory with what a user of it has."""

    def __init__(self, bench, name):
        given = Path(os.environ[f"MLCTL_TEST_{name.upper()}"])
        self.name, self.bench = name, bench
        config = (given / "config.toml").read_text()
        self.namespace = re.search('namespace = "(.*)"', config)[1]
        # A store that nobody else has.
        store = re.search('url = "(.*?)"', config) or re.search('store.url = "(.*?)"', config)
        own = f"{store[1]}/bench-{uuid.uuid4().hex[:8]}"
        home = bench.fresh(f"home-{name}")
        (home / "mlctl").mkdir()
        (home / "mlctl/config.toml").write_text(config.replace(f'"{store[1]}"', f'"{own}"'))
        self.env = {**bench.env(home), "XDG_CONFIG_HOME": str(home), "MLCTL_TRUST_PROJECT": "1"}
        self.env |= dict(line.split("=", 1) for line in (given / "environment").read_text().splitlines())
        if own.startswith("file://"):
            self.env["MLCTL_STORE"] = own.removeprefix("file://")
            Path(self.env["MLCTL_STORE"]).mkdir(parents=True)

    def project(self, name, spec):
        here = self.bench.fresh(f"{self.name}-{name}")
        (here / "mlctl.toml").write_text(BASE + spec)
        return here

    def run(self, here, *extra, verb="run"):
        return timed([self.bench.mlctl, verb, "-q", "--context", self.name, *extra], here, self.env)

    def kubectl(self, *argv, text=None):
        ended = subprocess.run(["kubectl", "-n", self.namespace, *argv], input=text, capture_output=True, text=True)
        if ended.returncode != 0:
            sys.exit(f"kubectl {argv}: {ended.stderr}")
        return ended.stdout

    def bare(self, tasks, width=None):
        """Seconds that Argo takes alone: so many tasks one after the other, or a fan-out of so many."""
        name = f"bare-{uuid.uuid4().hex[:8]}"
        pod = {"name": "pod", "container": {"image": IMAGE, "command": ["true"]}}
        if width:
            graph = [{"name": "w", "template": "pod", "withSequence": {"count": str(width)}}]
        else:
            names = [f"t{i}" for i in range(tasks)]
            graph = [{"name": task, "template": "pod"} | ({"depends": before} if before else {})
                     for before, task in zip([None, *names], names)]
        workflow = {
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {"name": name},
            "spec": {"entrypoint": "main", "serviceAccountName": "mlctl-pods", "parallelism": 8,
                     "podGC": {"strategy": "OnPodSuccess"},
                     "templates": [{"name": "main", "dag": {"tasks": graph}}, pod]},
        }
        start = time.monotonic()
        self.kubectl("create", "-f", "-", text=json.dumps(workflow))
        self.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=1200s", f"workflow/{name}")
        took = time.monotonic() - start
        self.kubectl("delete", "workflow", name)
        return took


def timed(argv, cwd, env):
    start = time.monotonic()
    ended = subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True)
    if ended.returncode != 0:
        sys.exit(f"{argv}: {ended.stdout}{ended.stderr}")
    return time.monotonic() - start


def table(title, rounds, cases, against):
    """`cases` in turn, so often; medians in seconds, and as parts of that of `against`."""
    print(f"\n## {title}, s", flush=True)
    samples = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            samples[name].append(case())
    medians = {name: statistics.median(times) for name, times in samples.items()}
    for name, median in medians.items():
        print(f"{name:<34}{median:>9.2f}{median / medians[against]:>8.2f}", flush=True)


def steps(bench):
    """One trivial step, and five in a chain, as one unit and each with a pod of its own."""
    kind = Place(bench, "kind")
    one = kind.project("one", '[steps.s]\ncommand = ["true"]\ncache = false\n')
    chain = "".join(f'[steps.s{i}]\ncommand = ["true"]\ncache = false\nneeds = {[f"s{i - 1}"] if i else []}\n' for i in range(5))
    five = kind.project("five", chain)
    apart = kind.project("apart", chain + '[contexts.kind]\nchains = false\n')
    kind.run(one), kind.bare(1)  # images and caches
    table("one trivial step", bench.rounds, {
        "Argo alone": lambda: kind.bare(1),
        "mlctl run": lambda: kind.run(one),
    }, "Argo alone")
    table("a chain of 5 trivial steps", min(bench.rounds, 3), {
        "Argo alone": lambda: kind.bare(5),
        "mlctl run": lambda: kind.run(five),
        "mlctl run, units of one step": lambda: kind.run(apart),
    }, "Argo alone")


def wide(bench, count=1000, bare=200):
    """A fan-out of trivial instances."""
    kind = Place(bench, "kind")
    here = kind.project("wide", f'[steps.s]\ncommand = ["true"]\ncache = false\nmatrix.i = {list(range(count))}\n')
    table(f"{count} trivial instances (of Argo {bare}, times {count // bare})", 1, {
        "Argo alone": lambda: kind.bare(0, bare) * count / bare,
        "mlctl run": lambda: kind.run(here),
    }, "Argo alone")


def submit(bench, count=1000):
    """Until the cluster has the workflow of so many instances."""
    kind = Place(bench, "kind")
    spec = '[contexts.kind]\nworkers = false\n' + "".join(
        f'[steps.s{i}]\ncommand = ["true"]\ncache = false\nmatrix.i = {list(range(count // 5))}\n' for i in range(5))
    here = kind.project("submit", spec)
    manifest = subprocess.run([bench.mlctl, "plan", "--context", "kind", "-o", "manifest"], cwd=here, env=kind.env,
                              capture_output=True, text=True, check=True).stdout

    def create():
        name = f"bare-{uuid.uuid4().hex[:8]}"
        text = re.sub("name: mlctl-bench-dry-run", f"name: {name}\n  generateName: null", manifest, count=1)
        text = text.replace("\nspec:\n", "\nspec:\n  suspend: true\n", 1)
        path = here / "manifest.yaml"
        path.write_text(text)
        took = timed(["kubectl", "-n", kind.namespace, "create", "-f", str(path)], here, kind.env)
        kind.kubectl("delete", "workflow", name)
        return took

    def submitted():
        run = f"b{uuid.uuid4().hex[:7]}"
        took = kind.run(here, "--run-id", run, verb="submit")
        subprocess.run([bench.mlctl, "cancel", "-q", "--context", "kind", run], cwd=here, env=kind.env, capture_output=True)
        return took

    table(f"compile and submit {count} instances", min(bench.rounds, 3), {
        "kubectl create": create, "mlctl submit": submitted}, "kubectl create")


def cached(bench):
    """A run of which all is in the store on S3: no pod, no workflow."""
    cloud = Place(bench, "cloud")
    here = cloud.project("cached", '[steps.s]\nmatrix.i = [1, 2, 3, 4]\ncommand = ["sh", "-c", "echo {{ matrix.i }} > {{ outputs.o }}"]\n'
                         'outputs.o = {}\n[steps.all]\ninputs.o = "s[*].o"\nscript = "cat $MLCTL_INPUT_O/* > $MLCTL_OUTPUT_O"\noutputs.o = {}\n')
    cloud.run(here)

    def again():
        shutil.rmtree(here / ".mlctl")
        return cloud.run(here)

    table("a cached run, with S3", bench.rounds, {"mlctl run": again}, "mlctl run")


def edited(bench):
    """From the edit of a script to its step running."""
    kind = Place(bench, "kind")
    here = kind.project("edited", '[steps.s]\nsources = ["s.sh"]\ncommand = ["sh", "s.sh"]\noutputs.x = { at = "x", export = "read" }\n')

    def edit():
        start = time.time()
        (here / "s.sh").write_text(f"date +%s.%N | tee x # {start}\n")
        kind.run(here)
        return float((here / "read").read_text()) - start

    def pod():
        name = f"bare-{uuid.uuid4().hex[:8]}"
        start = time.time()
        kind.kubectl("run", name, "--image", IMAGE, "--restart=Never", "--command", "--", "date", "+%s.%N")
        kind.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=300s", f"pod/{name}")
        took = float(kind.kubectl("logs", name)) - start
        kind.kubectl("delete", "pod", name)
        return took

    def argo():
        name = f"bare-{uuid.uuid4().hex[:8]}"
        start = time.time()
        kind.kubectl("create", "-f", "-", text=json.dumps({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {"name": name},
            "spec": {"entrypoint": "pod", "serviceAccountName": "mlctl-pods",
                     "templates": [{"name": "pod", "container": {"image": IMAGE, "command": ["date", "+%s.%N"]}}]}}))
        kind.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=300s", f"workflow/{name}")
        # Argo's own process writes to the same log.
        log = kind.kubectl("logs", "-l", f"workflows.argoproj.io/workflow={name}", "-c", "main")
        took = float(re.search(r"^\d+\.\d+$", log, re.M)[0]) - start
        kind.kubectl("delete", "workflow", name)
        return took

    table("edit of a script to its step running", bench.rounds, {
        "a pod without Argo": pod, "a pod of Argo": argo, "mlctl run": edit}, "a pod of Argo")


def memory(bench, count=1000):
    """The peak of whoever follows a run of so many instances."""
    kind = Place(bench, "kind")
    here = kind.project("memory", f'[steps.s]\ncommand = ["true"]\nmatrix.i = {list(range(count))}\n')
    run = f"b{uuid.uuid4().hex[:7]}"
    kind.run(here, "--run-id", run, verb="submit")
    peak = peak_memory([bench.mlctl, "watch", "-q", "--context", "kind", run], here, kind.env)
    print(f"\n## watch of {count} instances: {peak:.1f} MiB", flush=True)


def large(bench, gib=4):
    """The peak of mlctl-exec in pods, on this machine's kernel, beside an artifact of so many GiB."""
    for name in ("kind", "cloud"):
        place = Place(bench, name)
        run = f"b{uuid.uuid4().hex[:7]}"
        here = place.project("large", f'[steps.make]\ncommand = ["sh", "-c", "head -c {gib}G /dev/zero > $MLCTL_OUTPUT_X"]\noutputs.x = {{}}\n'
                             '[steps.use]\ninputs.x = "make.x"\ncommand = ["sh", "-c", "cat $MLCTL_INPUT_X > /dev/null"]\n'
                             f'[contexts.{name}]\nchains = false\n')
        running = subprocess.Popen([bench.mlctl, "run", "-q", "--context", name, "--run-id", run], cwd=here, env=place.env)
        peaks = {}
        while running.poll() is None:
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    argv = (process / "cmdline").read_bytes().split(b"\0")
                    if argv[0].endswith(b"/mlctl-exec") and run.encode() in argv:
                        status = (process / "status").read_text()
                        verb = argv[1].decode()
                        peaks[verb] = max(peaks.get(verb, 0), int(re.search(r"VmHWM:\s+(\d+)", status)[1]))
                except (OSError, TypeError):
                    pass  # it ended
            time.sleep(0.02)
        if running.returncode != 0:
            sys.exit(f"the run ended with {running.returncode}")
        print(f"\n## mlctl-exec in {name} beside {gib} GiB, MiB: "
              + ", ".join(f"{verb} {peak / 1024:.1f}" for verb, peak in sorted(peaks.items())), flush=True)


def main():
    args = arguments(__doc__, "one round")
    root = Path(tempfile.mkdtemp(prefix="mlctl-bench-", dir=os.environ.get("TMPDIR", "/var/tmp")))
    bench = Bench(args.mlctl, 1 if args.quick else 5, root)
    parts = {"steps": steps, "edited": edited, "submit": submit, "cached": cached, "wide": wide, "memory": memory,
             "large": large}
    # Bare pods have it by that name; mlctl brings it itself.
    subprocess.run(["kind", "load", "docker-image", "--name", os.environ["MLCTL_TESTBED_CLUSTER"], IMAGE],
                   check=True, capture_output=True)
    try:
        for part in args.only.split(",") if args.only else parts:
            parts[part](bench)
    finally:
        subprocess.run(["chmod", "-R", "u+w", root])
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
