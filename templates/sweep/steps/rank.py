"""Rank learning rates by their loss, the mean over all else that was varied. Smaller is better."""

import argparse
import csv
import json
from collections import defaultdict
from pathlib import Path
from statistics import mean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--losses", type=Path, required=True)
    parser.add_argument("--top", type=int, required=True)
    parser.add_argument("--board", type=Path, required=True)
    parser.add_argument("--best", type=Path, required=True)
    args = parser.parse_args()

    losses = defaultdict(list)
    for entry in json.loads((args.losses / "index.json").read_text()):
        losses[entry["matrix"]["learning_rate"]].append(entry["value"])
    board = sorted((mean(values), rate) for rate, values in losses.items())

    with args.board.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["learning_rate", "loss"])
        writer.writerows((rate, f"{loss:.4f}") for loss, rate in board)
    args.best.write_text(json.dumps([rate for _loss, rate in board[: args.top]]))
    print(args.board.read_text(), end="")


if __name__ == "__main__":
    main()
