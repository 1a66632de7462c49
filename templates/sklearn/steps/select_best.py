"""Choose the model with the best validation score; of equals the first in the matrix, which is the simplest."""

import argparse
import json
import shutil
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--metrics", type=Path, required=True)
    parser.add_argument("--by", required=True)
    parser.add_argument("--best", type=Path, required=True)
    parser.add_argument("--name", type=Path, required=True)
    args = parser.parse_args()

    metrics, models = read_index(args.metrics), read_index(args.models)
    scores = [json.loads((args.metrics / entry["path"]).read_text())[args.by] for entry in metrics]
    best = scores.index(max(scores))
    name = "{model} of depth {depth}".format(**models[best]["matrix"])

    shutil.copyfile(args.models / models[best]["path"], args.best)
    args.name.write_text(name)
    print(f"{name}: {args.by} {scores[best]:.3f}")


def read_index(gathered: Path) -> list[dict]:
    """The members of a gathered input, in matrix order."""
    return json.loads((gathered / "index.json").read_text())


if __name__ == "__main__":
    main()
