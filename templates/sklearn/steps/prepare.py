"""Split the raw rows into train, validation and test, with the classes in the same proportions."""

import argparse
import csv
from pathlib import Path

from sklearn.model_selection import train_test_split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--raw", type=Path, required=True)
    parser.add_argument("--holdout", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    with args.raw.open(newline="") as file:
        header, *rows = csv.reader(file)
    count = round(len(rows) * args.holdout)
    rest, test = split(rows, count, args.seed)
    train, validation = split(rest, count, args.seed)

    args.out.mkdir()
    for name, part in {"train": train, "validation": validation, "test": test}.items():
        with (args.out / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([header, *part])
        print(f"{name}: {len(part)} rows")


def split(rows: list[list[str]], count: int, seed: int) -> tuple[list, list]:
    """All but `count` rows, and those; stratified by the last column."""
    return train_test_split(rows, test_size=count, random_state=seed, stratify=[row[-1] for row in rows])


if __name__ == "__main__":
    main()
