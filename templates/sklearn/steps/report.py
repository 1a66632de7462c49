"""One HTML page: the validation score of every model, and what the best one does on the test rows."""

import argparse
import html
import json
from pathlib import Path

PAGE = """<!doctype html>
<meta charset="utf-8">
<title>Models compared</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; margin: 3rem auto; max-width: 40rem; padding: 0 1rem }}
  table {{ border-collapse: collapse; margin: 1rem 0 }}
  th, td {{ padding: .2rem .8rem .2rem 0; text-align: left }}
  td.number {{ font-variant-numeric: tabular-nums; text-align: right }}
  rect {{ fill: #b8c4d0 }} .best rect {{ fill: #2a6f97 }} .best {{ font-weight: bold }}
</style>
<h1>Models compared</h1>
<p>The best by validation {by} is <b>{best}</b>. On the test rows, which nothing else saw:
accuracy {accuracy:.3f}, recall {recall:.3f}, ROC AUC {roc_auc:.3f}.</p>
<table><tr><th>Model<th>Validation {by}<th></tr>
{table}
</table>
<h2>Test rows</h2>
<table>
<tr><th><th>called benign<th>called malignant</tr>
<tr><th>benign<td class="number">{benign[0]}<td class="number">{benign[1]}</tr>
<tr><th>malignant<td class="number">{malignant[0]}<td class="number">{malignant[1]}</tr>
</table>
"""
ROW = """<tr{mark}><td>{name}<td class="number">{score:.4f}<td><svg width="240" height="12"><rect width="{width:.1f}" height="12"/></svg></tr>"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--validation", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--best", required=True)
    parser.add_argument("--by", required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    scores = {
        "{model} of depth {depth}".format(**entry["matrix"]): json.loads((args.validation / entry["path"]).read_text())[args.by]
        for entry in json.loads((args.validation / "index.json").read_text())
    }
    test = json.loads(args.test.read_text())
    benign, malignant = test.pop("confusion")
    table = "\n".join(row(name, score, name == args.best) for name, score in sorted(scores.items(), key=lambda s: -s[1]))
    args.out.write_text(
        PAGE.format(by=args.by, best=html.escape(args.best), table=table, benign=benign, malignant=malignant, **test)
    )


def row(name: str, score: float, best: bool) -> str:
    """A line of the table; the bar starts at 0.8, where the differences are."""
    width = 240 * max(0.0, score - 0.8) / 0.2
    return ROW.format(mark=' class="best"' if best else "", name=html.escape(name), score=score, width=width)


if __name__ == "__main__":
    main()
