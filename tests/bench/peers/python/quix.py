"""Quix Streams: StreamingDataFrame with Avro (de)serializers, sdf.apply(score).to_topic(); per record (its idiom)."""

from common import *
import logging
from quixstreams import Application
from quixstreams.models import Deserializer, Serializer
import signal


class TxDe(Deserializer):
    def __call__(self, value, ctx):
        first()
        return decode(value)


class PredSer(Serializer):
    def __call__(self, value, ctx):
        return encode(value["transaction_id"], value["score"], value["scored_at"])


ci = float(os.environ.get("COMMIT", "5"))
app = Application(
    broker_address=BOOT,
    consumer_group=APP,
    auto_offset_reset="latest" if LAT else "earliest",
    processing_guarantee=GUARANTEE,
    commit_interval=ci,
    loglevel="WARNING",
    state_dir=f"{HERE}/tmp/quix-{APP}",
    consumer_extra_config={} if LAT else {"queued.min.messages": 20000, "max.partition.fetch.bytes": 4 << 20},
    producer_extra_config=(
        {"linger.ms": 5} if LAT else {"linger.ms": 50, "batch.size": 131072, "queue.buffering.max.messages": 500000}
    ),
)
src = app.topic(IN, value_deserializer=TxDe())
dst = app.topic(OUT, value_serializer=PredSer())


def predict(t):
    return {
        "transaction_id": t["transaction_id"],
        "score": float(score(np.array([row(t)], dtype=np.float32))[0]),
        "scored_at": int(time.time() * 1000),
    }


sdf = app.dataframe(src).apply(predict).to_topic(dst)
if LAT:
    print("READY", flush=True)
    app.run()
else:
    app.run(count=N)
    report(N, time.perf_counter())
