"""Faust: agent over stream.take(1000, within=0.1) -> one ONNX run -> topic.send."""

from common import *
import asyncio, faust
from faust.serializers import codecs
from faust.types import ProcessingGuarantee

eos = GUARANTEE.startswith("exactly")


class TxCodec(codecs.Codec):
    def _loads(self, s):
        return decode(s)

    def _dumps(self, s):
        raise NotImplementedError


class PredCodec(codecs.Codec):
    def _dumps(self, s):
        return encode(*s)

    def _loads(self, s):
        raise NotImplementedError


codecs.register("tx-avro", TxCodec())
codecs.register("pred-avro", PredCodec())
datadir = f"{HERE}/tmp/faust-{APP}"
app = faust.App(
    APP,
    broker=f"kafka://{BOOT}",
    datadir=datadir,
    web_enabled=False,
    topic_disable_leader=True,
    topic_allow_declare=False,
    consumer_auto_offset_reset="earliest",
    store="memory://",
    processing_guarantee=ProcessingGuarantee.EXACTLY_ONCE if eos else ProcessingGuarantee.AT_LEAST_ONCE,
    broker_max_poll_records=2000,
    stream_buffer_maxsize=8192,
    producer_linger=0.02,
    producer_max_batch_size=131072,
    consumer_max_fetch_size=4 << 20,
    topic_partitions=4,
)
src = app.topic(IN, value_serializer="tx-avro", key_serializer="raw")
dst = app.topic(OUT, value_serializer="pred-avro", key_serializer="raw")
n = 0
acked = 0
done = None


def on_ack(fut):
    global acked
    acked += 1
    if acked == N:
        report(acked, time.perf_counter())
        asyncio.get_event_loop().call_later(2.5, lambda: os._exit(0))


@app.agent(src)
async def score_agent(stream):
    global n
    async for events in (
        stream.take_events(1000, within=0.1) if hasattr(stream, "take_events") else stream.take(1000, within=0.1)
    ):
        first()
        vals = [e.value if hasattr(e, "value") else e for e in events]
        keys = [getattr(e, "key", None) for e in events]
        s = score(np.array([row(r) for r in vals], dtype=np.float32)).tolist()
        now = int(time.time() * 1000)
        futs = [await dst.send(key=k, value=(r["transaction_id"], v, now)) for r, k, v in zip(vals, keys, s)]
        for f in futs:
            f.add_done_callback(on_ack) if hasattr(f, "add_done_callback") else None


if __name__ == "__main__":
    sys.argv = ["faust_peer", "worker", "-l", "warn", "--without-web"]
    app.main()
