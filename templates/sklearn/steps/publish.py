"""Put the model and a card that says what it is into one directory."""

import argparse
import json
import shutil
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--metrics", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    card = {
        "model": args.name,
        "task": "benign or malignant, from 30 measurements of the cell nuclei in a digitised image",
        "test": json.loads(args.metrics.read_text()),
        "use": "a demonstration; not for medical decisions",
    }
    args.out.mkdir()
    shutil.copyfile(args.model, args.out / "model.joblib")
    (args.out / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    print(f"published: {args.name}")


if __name__ == "__main__":
    main()
