"""Fit a logistic regression to two noisy half moons by gradient descent, one row at a time."""

import argparse
import json
import math
import random
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--learning-rate", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--curve", type=Path, required=True)
    parser.add_argument("--loss", type=Path, required=True)
    args = parser.parse_args()

    train, validation = moons(400, seed=1), moons(400, seed=2)
    shuffle = random.Random(args.seed)
    weights = [0.0] * len(train[0][0])
    with args.curve.open("w") as curve:
        for epoch in range(1, args.epochs + 1):
            shuffle.shuffle(train)
            for features, label in train:
                error = probability(weights, features) - label
                weights = [w - args.learning_rate * error * x for w, x in zip(weights, features)]
            loss = mean_loss(weights, validation)
            print(json.dumps({"step": epoch, "loss": loss}), file=curve)
    args.loss.write_text(str(loss))
    print(f"learning rate {args.learning_rate}, seed {args.seed}: loss {loss:.4f} after {args.epochs} epochs")


def moons(count: int, seed: int) -> list[tuple[list[float], int]]:
    """Rows of the upper (0) and the lower (1) half moon, with the features that a cubic border needs."""
    noise = random.Random(seed)
    rows = []
    for i in range(count):
        label, angle = i % 2, math.pi * noise.random()
        x, y = (math.cos(angle), math.sin(angle)) if label == 0 else (1 - math.cos(angle), 0.5 - math.sin(angle))
        x, y = x + noise.gauss(0, 0.2), y + noise.gauss(0, 0.2)
        rows.append(([1.0, x, y, x * x, x * y, y * y, x**3], label))
    return rows


def probability(weights: list[float], features: list[float]) -> float:
    """That the label is 1; kept away from 0 and 1, so that its logarithm is finite."""
    score = sum(w * x for w, x in zip(weights, features))
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, score))))


def mean_loss(weights: list[float], rows: list[tuple[list[float], int]]) -> float:
    """The cross entropy."""
    probabilities = ((probability(weights, features), label) for features, label in rows)
    return sum(-math.log(p if label else 1 - p) for p, label in probabilities) / len(rows)


if __name__ == "__main__":
    main()
