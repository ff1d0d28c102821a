"""What tests/bench/training.ts measures, by XGBoost `hist` on one thread: training-xgboost.py DIR [max_bin] [runs]
DIR holds what `training.js --write DIR` left. Needs numpy, xgboost and scikit-learn, outside the project."""
import json
import os
import sys
import time

os.environ["OMP_NUM_THREADS"] = "1"
import numpy as np
import xgboost as xgb
from sklearn.metrics import average_precision_score, roc_auc_score

folder = sys.argv[1]
max_bin = int(sys.argv[2]) if len(sys.argv) > 2 else 256
runs = int(sys.argv[3]) if len(sys.argv) > 3 else 1


def part(name):
    return np.fromfile(f"{folder}/{name}.f32", np.float32).reshape(-1, 30), np.fromfile(f"{folder}/{name}.u8", np.uint8)


(x, y), (test_x, test_y) = part("train"), part("test")
params = {
    "objective": "binary:logistic",
    "tree_method": "hist",
    "nthread": 1,
    "max_depth": 6,
    "eta": 0.1,
    "max_bin": max_bin,
    "base_score": 0.5,
}
for _ in range(runs):
    start, wall = time.process_time(), time.perf_counter()
    data = xgb.QuantileDMatrix(x, label=y, nthread=1, max_bin=max_bin)
    booster = xgb.train(params, data, 100)
    cpu, wall = time.process_time() - start, time.perf_counter() - wall
    p = booster.predict(xgb.DMatrix(test_x))
    result = {
        "bench": "xgboost " + xgb.__version__,
        "rows": len(y),
        "frauds": int(y.sum()),
        "max_bin": max_bin,
        "cpu_seconds": round(cpu, 2),
        "seconds": round(wall, 2),
        "roc_auc": round(roc_auc_score(test_y, p), 5),
        "average_precision": round(average_precision_score(test_y, p), 5),
    }
    print(json.dumps(result), flush=True)
