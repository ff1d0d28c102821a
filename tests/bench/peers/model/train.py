"""Train LightGBM (100 trees, depth 6, 29 float features) on synthetic data; export ONNX, zipmap off."""

import hashlib, sys, time
import numpy as np, lightgbm as lgb, onnxruntime as ort
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType

out = sys.argv[1] if len(sys.argv) > 1 else "model.onnx"
rng = np.random.default_rng(7)
n = 200_000
X = np.empty((n, 29), np.float32)
X[:, 0] = np.exp(rng.normal(3.2, 1.3, n))
X[:, 1:] = rng.normal(0, 1, (n, 28))
logit = (
    -4.5
    + 1.5 * X[:, 14]
    - 1.2 * X[:, 4] * X[:, 10]
    + 0.8 * np.abs(X[:, 17])
    + 0.35 * np.log(X[:, 0])
    + 0.5 * np.sin(2 * X[:, 1])
    + 0.2 * X[:, 2:29].sum(1) / 5
    + 0.7 * (X[:, 12] > 1) * X[:, 7]
)
y = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(int)
m = lgb.LGBMClassifier(
    n_estimators=100,
    max_depth=6,
    num_leaves=63,
    learning_rate=0.1,
    min_child_samples=20,
    random_state=7,
    n_jobs=2,
    deterministic=True,
    force_col_wise=True,
    verbose=-1,
)
m.fit(X, y)
onx = convert_lightgbm(m, initial_types=[("features", FloatTensorType([None, 29]))], zipmap=False, target_opset=15)
open(out, "wb").write(onx.SerializeToString())
so = ort.SessionOptions()
so.intra_op_num_threads = 1
s = ort.InferenceSession(out, so)
print(
    "inputs",
    [(i.name, i.shape, i.type) for i in s.get_inputs()],
    "outputs",
    [(o.name, o.shape, o.type) for o in s.get_outputs()],
)
p = s.run(["probabilities"], {"features": X[:5000]})[0][:, 1]
print("max |onnx-lgbm|", np.abs(p - m.predict_proba(X[:5000])[:, 1]).max(), "pos rate", y.mean())
nodes = sum(t["num_leaves"] for t in m.booster_.dump_model()["tree_info"])
print("trees", m.booster_.num_trees(), "leaves", nodes)
print(
    "sha256",
    hashlib.sha256(open(out, "rb").read()).hexdigest(),
    "opsets",
    [(o.domain, o.version) for o in onx.opset_import],
)
for b in (1, 10, 100, 1000, 4000):
    x = X[:b]
    k = max(20, 40000 // b)
    t = time.process_time()
    for _ in range(k):
        s.run(["probabilities"], {"features": x})
    print(f"batch {b}: {(time.process_time()-t)/k/b*1e6:.2f} us/record cpu (python ort, 1 thread)")
