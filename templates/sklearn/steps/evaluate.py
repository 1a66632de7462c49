"""Score a model on rows that it has not seen. The positive class is malignant: recall counts the cancers found."""

import argparse
import csv
import json
from pathlib import Path

import joblib
import numpy as np
from sklearn.metrics import accuracy_score, confusion_matrix, recall_score, roc_auc_score

CLASSES = ["benign", "malignant"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--metrics", type=Path, required=True)
    args = parser.parse_args()

    with args.rows.open(newline="") as file:
        _header, *rows = csv.reader(file)
    features = np.array([row[:-1] for row in rows], dtype=float)
    labels = [row[-1] for row in rows]

    model = joblib.load(args.model)
    predicted = model.predict(features)
    malignant = model.predict_proba(features)[:, list(model.classes_).index("malignant")]
    metrics = {
        "rows": len(rows),
        "accuracy": accuracy_score(labels, predicted),
        "recall": recall_score(labels, predicted, pos_label="malignant"),
        "roc_auc": roc_auc_score([label == "malignant" for label in labels], malignant),
        "confusion": confusion_matrix(labels, predicted, labels=CLASSES).tolist(),
    }
    args.metrics.write_text(json.dumps(metrics, indent=2) + "\n")
    print(f"accuracy {metrics['accuracy']:.3f}, recall {metrics['recall']:.3f}, ROC AUC {metrics['roc_auc']:.3f}")


if __name__ == "__main__":
    main()
