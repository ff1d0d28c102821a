"""Writes the Fraud Detection Handbook's published data (one pickle a day) as the CSV that tests and benchmarks read."""

import argparse
from pathlib import Path

import pandas as pd

COLUMNS = ["TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT", "TX_FRAUD"]

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("folder", type=Path, help="the folder of the pickles, named by their day")
parser.add_argument("out", help="the file to write, such as card-transactions.csv.gz")
parser.add_argument("--first", default="2018-06-18", help="the first day (default: %(default)s)")
parser.add_argument("--last", default="2018-08-14", help="the last day (default: %(default)s)")
options = parser.parse_args()

files = sorted(options.folder.glob("*.pkl"))
days = [pd.read_pickle(file) for file in files if options.first <= file.stem <= options.last]
if not days:
    parser.error(f"{options.folder} has no pickles from {options.first} to {options.last}")
rows = pd.concat(days).sort_values(["TX_DATETIME", "TRANSACTION_ID"], kind="stable")[COLUMNS]
rows.to_csv(options.out, index=False)
print(f"{options.out}: {len(rows):,} rows, {int(rows.TX_FRAUD.sum()):,} frauds")
