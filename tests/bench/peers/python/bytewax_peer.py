"""Bytewax: Kafka source batches -> flat_map_batch (one ONNX run per source batch) -> KafkaSink.

RECOVERY=1: SQLite recovery store (at least once)."""

from common import *
import shutil
from datetime import timedelta
import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSource, KafkaSink, KafkaSinkMessage
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax._bytewax import run_main

n = 0


def batch(ms):
    global n
    first()
    recs = [decode(m.value) for m in ms]
    if not recs:
        return []
    s = score(np.array([row(r) for r in recs], dtype=np.float32)).tolist()
    now = int(time.time() * 1000)
    n += len(recs)
    return [KafkaSinkMessage(m.key, encode(r["transaction_id"], v, now)) for m, r, v in zip(ms, recs, s)]


flow = Dataflow("peer")
src = op.input(
    "in",
    flow,
    KafkaSource(
        [BOOT],
        [IN],
        tail=False,
        batch_size=2000,
        add_config={"queued.min.messages": "20000", "max.partition.fetch.bytes": str(4 << 20)},
    ),
)
op.output(
    "out",
    op.flat_map_batch("score", src, batch),
    KafkaSink(
        [BOOT], OUT, add_config={"linger.ms": "5", "batch.size": "131072", "queue.buffering.max.messages": "500000"}
    ),
)
if os.environ.get("RECOVERY") == "1":
    from pathlib import Path

    d = Path(f"{HERE}/tmp/bytewax-{APP}")
    d.mkdir(parents=True)
    init_db_dir(d, 1)
    run_main(flow, epoch_interval=timedelta(seconds=1), recovery_config=RecoveryConfig(str(d)))
    shutil.rmtree(d)
else:
    run_main(flow, epoch_interval=timedelta(seconds=1))
report(n, time.perf_counter())
