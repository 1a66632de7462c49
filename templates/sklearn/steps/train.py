"""Fit one classifier and save it as model.joblib."""

import argparse
import csv
from pathlib import Path

import joblib
import numpy as np
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier

MODELS = {"tree": DecisionTreeClassifier, "forest": RandomForestClassifier, "boosting": GradientBoostingClassifier}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--model", choices=MODELS, required=True)
    parser.add_argument("--depth", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    args = parser.parse_args()

    with args.rows.open(newline="") as file:
        _header, *rows = csv.reader(file)
    features = np.array([row[:-1] for row in rows], dtype=float)
    labels = [row[-1] for row in rows]

    model = MODELS[args.model](max_depth=args.depth, random_state=args.seed)
    model.fit(features, labels)
    joblib.dump(model, "model.joblib")
    print(f"{args.model} of depth {args.depth}: {model.score(features, labels):.3f} of the training rows are right")


if __name__ == "__main__":
    main()
