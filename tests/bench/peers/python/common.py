"""Shared by the Python peers: Avro (fastavro, Confluent wire format), ONNX scorer, result line."""

import io, json, os, sys, time
import numpy as np, onnxruntime as ort
from fastavro import parse_schema, schemaless_reader, schemaless_writer

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BOOT = os.environ["BOOTSTRAP"]
APP = os.environ.get("APP", "py-dev")
IN = os.environ.get("IN", "transactions")
OUT = os.environ.get("OUT", "predictions-py")
N = int(os.environ.get("N", "1000000"))
GUARANTEE = os.environ.get("GUARANTEE", "at_least_once")
LAT = os.environ.get("LATENCY") == "1"
TX = parse_schema(json.load(open(f"{HERE}/schema/transaction.avsc")))
PRED = parse_schema(json.load(open(f"{HERE}/schema/prediction.avsc")))
FEATURES = ["amount"] + [f"v{i}" for i in range(1, 29)]
MODEL_VERSION = "m1"
HDR = b"\x00\x00\x00\x00\x02"
from operator import itemgetter

row = itemgetter(*FEATURES)
_so = ort.SessionOptions()
_so.intra_op_num_threads = 1
_so.inter_op_num_threads = 1
session = ort.InferenceSession(f"{HERE}/model/model.onnx", _so, providers=["CPUExecutionProvider"])


def score(x):
    return session.run(["probabilities"], {"features": x})[0][:, 1]


def decode(b):
    if b[0] != 0:
        raise ValueError("not the Confluent wire format")
    f = io.BytesIO(b)
    f.seek(5)
    return schemaless_reader(f, TX, None)


def encode(tid, s, now):
    o = io.BytesIO()
    o.write(HDR)
    schemaless_writer(o, PRED, {"transaction_id": tid, "score": s, "model_version": MODEL_VERSION, "scored_at": now})
    return o.getvalue()


first_t = cpu_first = None


def first():
    global first_t, cpu_first
    if first_t is None:
        first_t = time.perf_counter()
        cpu_first = time.process_time()


def report(n, last_t):
    print(
        "RESULT "
        + json.dumps({"records": n, "wall_s": round(last_t - first_t, 3), "cpu_at_first_s": round(cpu_first, 2)}),
        file=sys.__stdout__,
        flush=True,
    )
