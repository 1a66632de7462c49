#!/usr/bin/env python3
"""Measures mlctl against ninja, make, doit, snakemake, b3sum and git, as ratios in one run on this machine.

    python3 benches/compare.py [--quick] [--only NAME[,NAME]] [MLCTL]

MLCTL is the binary (default: target/*/dist/mlctl). doit, snakemake and b3sum are installed once into the user's
cache directory. Every tool runs once a round, in a fresh directory, in turn; the medians of the rounds are compared.
Old outputs are kept until the end: ext4 makes creating a file dearer right after deleting many. The surest is a file
system of its own, named by TMPDIR (made with mkfs, mounted by a loop device). Wall time suffers from a busy neighbour:
look at CPU too.
"""

import argparse
import glob
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mlctl-bench"
DOIT, SNAKEMAKE, B3SUM = "0.37.0", "9.27.1", "1.8.7"


def binary(given):
    """The mlctl to measure: the one that was given, else the newest that was built for it."""
    found = sorted(glob.glob(str(Path(__file__).parent.parent / "target/*/dist/mlctl")), key=os.path.getmtime)
    return Path(given or (found and found[-1]) or sys.exit("build it first: cargo build --profile dist")).resolve()


def arguments(doc, quick):
    """The command line of a benchmark that has parts. `quick` is what `--quick` does."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--only", help="names of parts, with commas")
    parser.add_argument("mlctl", nargs="?", type=binary, default="")
    return parser.parse_args()


def usage(argv, cwd, env=None, watch=None):
    """Runs argv; gives wall seconds and what the system counted, of its children too. `watch(pid)` is called once it runs."""
    start = time.perf_counter()
    with open(os.devnull, "w") as null, tempfile.TemporaryFile() as stderr:
        child = subprocess.Popen([str(a) for a in argv], cwd=cwd, env=env, stdout=null, stderr=stderr)
        if watch:
            watch(child.pid)
        _, status, used = os.wait4(child.pid, 0)
        wall = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            stderr.seek(0)
            sys.exit(f"{argv} in {cwd}: exit {child.returncode}\n{stderr.read().decode(errors='replace')[-2000:]}")
    return wall, used


def measure(argv, cwd, env=None, watch=None):
    """Wall seconds and CPU seconds (children included)."""
    wall, used = usage(argv, cwd, env, watch)
    return wall, used.ru_utime + used.ru_stime


def peak_memory(argv, cwd, env):
    """MiB at the peak, from the kernel's high-water mark of the process itself, read until it ends."""
    peak = 0

    def watch(pid):
        nonlocal peak
        while True:
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except OSError:
                return
            found = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
            if not found:  # it ended
                return
            # What the process inherited before it became the program does not count.
            if status.startswith("Name:\tmlctl"):
                peak = max(peak, int(found[0]))
            time.sleep(0.0005)

    measure(argv, cwd, env, watch)
    return peak / 1024


class Bench:
    def __init__(self, mlctl, rounds, root):
        self.mlctl, self.rounds, self.root = mlctl, rounds, root

    def fresh(self, name):
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.root))

    def env(self, directory):
        """With a store of its own, beside the directory; an empty one, but made: a user's is there from the second run on."""
        env = {**os.environ, "MLCTL_STORE": f"{directory}.store", "NO_COLOR": "1"}
        if not os.path.exists(env["MLCTL_STORE"]):
            subprocess.run([self.mlctl, "gc", "-q"], cwd="/", env=env, check=True, capture_output=True)
        return env

    def rows(self, title, tools, base):
        """tools: name -> (prepare() -> (argv, cwd, env)). Prints medians and ratios to `base`."""
        samples = {name: [] for name in tools}
        for _ in range(self.rounds):
            for name, prepare in tools.items():
                samples[name].append(measure(*prepare()))
        medians = {n: [statistics.median(s[i] for s in rows) for i in range(2)] for n, rows in samples.items()}
        print(f"\n## {title}\n{'':<22}{'wall ms':>10}{'CPU ms':>10}{'wall x':>8}{'CPU x':>8}   (x: against {base})")
        for name, (wall, cpu) in medians.items():
            print(f"{name:<22}{wall * 1e3:>10.1f}{cpu * 1e3:>10.1f}"
                  f"{wall / medians[base][0]:>8.2f}{cpu / max(medians[base][1], 1e-6):>8.2f}", flush=True)


def write_mlctl(path, count, chain=False, spelled=False):
    # Each step writes something else: the same key would be one step to mlctl.
    head = '[project]\nname = "bench"\n'
    command = 'command = ["sh", "-c", "echo %s > \\"$MLCTL_OUTPUT_X\\""]\noutputs.x = {}\n'
    if chain or spelled:
        steps = "".join(
            f"[steps.s{i}]\n" + (f'inputs.y = "s{i - 1}.x"\n' if chain and i else "") + command % i for i in range(count))
    else:
        steps = f"[steps.s]\nmatrix.i = {list(range(count))}\n" + command % "{{ matrix.i }}"
    (path / "mlctl.toml").write_text(head + steps)


def write_ninja(path, count, chain=False):
    rules = "rule r\n command = echo $out > $out\n"
    builds = "".join(f"build f{i}: r {f'f{i - 1}' if chain and i else ''}\n" for i in range(count))
    (path / "build.ninja").write_text(rules + builds)


def write_make(path, count, chain=False):
    targets = " ".join(f"f{i}" for i in range(count))
    rules = "".join(f"f{i}: {f'f{i - 1}' if chain and i else ''}\n\t@echo $@ > $@\n" for i in range(count))
    (path / "Makefile").write_text(f"all: {targets}\n{rules}")


def write_doit(path, count):
    (path / "dodo.py").write_text(
        "def task_all():\n"
        f"    for i in range({count}):\n"
        "        yield {'name': str(i), 'actions': [f\"echo {i} > f{i}\"], 'targets': [f'f{i}'], 'uptodate': [True]}\n")


def write_snakemake(path, count):
    (path / "Snakefile").write_text(
        f"rule all:\n    input: expand('f{{i}}', i=range({count}))\n"
        "rule one:\n    output: 'f{i}'\n    shell: \"echo {output} > {output}\"\n")


def tools_venv():
    venv = CACHE / f"venv-doit{DOIT}-snakemake{SNAKEMAKE}"
    if not (venv / "ok").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
        subprocess.run([venv / "bin/pip", "install", "-q", f"doit=={DOIT}", f"snakemake=={SNAKEMAKE}"], check=True)
        (venv / "ok").touch()
    return venv / "bin"


def b3sum():
    root = CACHE / f"b3sum-{B3SUM}"
    if not (root / "bin/b3sum").exists():
        subprocess.run(["cargo", "install", "-q", "--root", root, "--locked", f"b3sum@{B3SUM}"], check=True, cwd="/")
    return root / "bin/b3sum"


def start_up(bench):
    here = bench.fresh("help")
    bench.rows("start: --help, --version (median)", {
        "/bin/true": lambda: (["/bin/true"], here, None),
        "mlctl --version": lambda: ([bench.mlctl, "--version"], here, None),
        "mlctl --help": lambda: ([bench.mlctl, "--help"], here, None),
    }, "/bin/true")


def run_all(bench, count, chain, slow):
    kind = "chain" if chain else "fan-out"

    def with_(writer, argv, **more):
        def prepare():
            here = bench.fresh(kind)
            writer(here, count, **more)
            return argv, here, bench.env(here)
        return prepare

    tools = {
        "ninja": with_(write_ninja, ["ninja", "-j2"], chain=chain),
        "mlctl": with_(write_mlctl, [bench.mlctl, "run", "-j2"], chain=chain),
        "make": with_(write_make, ["make", "-j2"], chain=chain),
    }
    if slow:
        bin_ = tools_venv()
        tools["doit"] = with_(write_doit, [bin_ / "doit", "-n2"])
        tools["snakemake"] = with_(write_snakemake, [bin_ / "snakemake", "-c2", "-q"])
    bench.rows(f"{count} steps, {kind}, 2 at once", tools, "ninja")


def nothing_to_do(bench, count, spelled):
    def ready(writer, argv, **more):
        here = bench.fresh("nothing")
        writer(here, count, **more)
        measure(argv, here, bench.env(here))
        return lambda: (argv, here, bench.env(here))

    tools = {
        "ninja": ready(write_ninja, ["ninja", "-j2"]),
        "mlctl": ready(write_mlctl, [bench.mlctl, "run", "-j2"], spelled=spelled),
    }
    bench.rows(f"nothing to do, {count} steps {'spelled out' if spelled else 'of a matrix'}", tools, "ninja")


def planning(bench, count):
    here = bench.fresh("plan")
    write_mlctl(here, count, spelled=True)
    bench.rows(f"plan of {count} steps", {
        "mlctl check": lambda: ([bench.mlctl, "check"], here, bench.env(here)),
        "mlctl plan": lambda: ([bench.mlctl, "plan"], here, bench.env(here)),
    }, "mlctl check")


def memory(bench):
    print("\n## peak memory, MiB")
    for count in (1000, 10_000):
        here = bench.fresh("memory")
        write_mlctl(here, count)
        first = peak_memory([bench.mlctl, "run", "-j2"], here, bench.env(here))
        again = peak_memory([bench.mlctl, "run", "-j2"], here, bench.env(here))
        print(f"{count:>6} steps: {first:.1f} running all, {again:.1f} with nothing to do", flush=True)


def big_file(bench):
    here = bench.fresh("gib")
    with open(here / "big", "wb") as file:
        for _ in range(64):
            file.write(os.urandom(16 << 20))
    (here / "mlctl.toml").write_text(
        '[project]\nname = "big"\n[steps.s]\ninputs.big = { path = "big" }\noutputs.x = {}\n'
        'command = ["sh", "-c", "cp \\"$MLCTL_INPUT_BIG\\" \\"$MLCTL_OUTPUT_X\\""]\n')
    sum_ = b3sum()

    def fresh_store():
        env = bench.env(bench.fresh("gib-store"))
        shutil.rmtree(here / ".mlctl", ignore_errors=True)
        return env

    bench.rows("1 GiB file into the store, copied by a step, its copy stored", {
        "cp+b3sum, twice": lambda: (["sh", "-c", f"cp big a && {sum_} a && cp a b && {sum_} b; rm a b"], here, None),
        "mlctl run": lambda: ([bench.mlctl, "run"], here, fresh_store()),
        "b3sum": lambda: ([sum_, "big"], here, None),
    }, "cp+b3sum, twice")


def source_tree(bench, count=20_000):
    here = bench.fresh("tree")
    for i in range(count):
        if i % 200 == 0:
            folder = here / f"src/d{i // 200}"
            folder.mkdir(parents=True)
        (folder / f"f{i}.py").write_text(f"value = {i}\n" * 20)
    write_mlctl(here, 1)
    subprocess.run("git init -q && git add -A && git -c user.name=b -c user.email=b@b commit -qm b && git status >/dev/null",
                   shell=True, cwd=here, check=True)
    env = bench.env(here)
    measure([bench.mlctl, "run"], here, env)
    time.sleep(2)  # what was written in the last tick of the clock cannot be trusted by its stamp
    measure([bench.mlctl, "run"], here, env)
    bench.rows(f"an unchanged tree of {count} sources", {
        "git status": lambda: (["git", "status", "--porcelain"], here, None),
        "mlctl plan": lambda: ([bench.mlctl, "plan"], here, env),
        "mlctl run": lambda: ([bench.mlctl, "run"], here, env),
    }, "git status")


def main():
    args = arguments(__doc__, "one round, without the slow tools")
    mlctl = args.mlctl
    root = Path(tempfile.mkdtemp(prefix="mlctl-bench-", dir=os.environ.get("TMPDIR", "/var/tmp")))
    bench = Bench(mlctl, 1 if args.quick else 5, root)
    many = Bench(mlctl, 3 if args.quick else 30, root)
    parts = {
        "start": lambda: start_up(many),
        "fanout": lambda: run_all(bench, 1000, False, not args.quick),
        "chain": lambda: run_all(bench, 1000, True, False),
        "chain10k": lambda: run_all(Bench(mlctl, 1, root), 10_000, True, False),
        "fanout10k": lambda: run_all(Bench(mlctl, 1, root), 10_000, False, False),
        "nothing1k": lambda: nothing_to_do(many, 1000, True),
        "nothing10k": lambda: (nothing_to_do(many, 10_000, False), nothing_to_do(many, 10_000, True)),
        "nothing100k": lambda: nothing_to_do(Bench(mlctl, 3, root), 100_000, False),
        "memory": lambda: memory(bench),
        "plan": lambda: planning(bench, 10_000),
        "big": lambda: big_file(Bench(mlctl, min(bench.rounds, 3), root)),
        "tree": lambda: source_tree(many),
    }
    wanted = args.only.split(",") if args.only else [p for p in parts if not (args.quick and p == "nothing100k")]
    try:
        for part in wanted:
            parts[part]()
    finally:
        subprocess.run(["chmod", "-R", "u+w", root])
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
