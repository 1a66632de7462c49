import argparse
import csv
import json

from helpers import mean

parser = argparse.ArgumentParser()
parser.add_argument("--table")
parser.add_argument("--out")
args = parser.parse_args()

with open(args.table, newline="") as file:
    numbers = [float(row["x"]) for row in csv.DictReader(file)]
with open(args.out, "w") as file:
    json.dump({"mean": mean(numbers), "rows": len(numbers)}, file)
