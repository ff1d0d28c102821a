"""Hand-written confluent-kafka: consume(2000) -> fastavro -> one ONNX run -> produce.

Commits every second; exactly once: one transaction per 100 ms."""

from common import *
from confluent_kafka import Consumer, Producer, TopicPartition

eos = GUARANTEE.startswith("exactly")
every = 0.1 if eos else 1.0
c = Consumer(
    {
        "bootstrap.servers": BOOT,
        "group.id": APP,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "isolation.level": "read_committed",
        "fetch.min.bytes": 1,
        "max.partition.fetch.bytes": 4 << 20,
        "queued.min.messages": 20000,
        "partition.assignment.strategy": "range",
    }
)
pc = {
    "bootstrap.servers": BOOT,
    "acks": "all",
    "enable.idempotence": True,
    "linger.ms": 50,
    "batch.size": 131072,
    "queue.buffering.max.messages": 500000,
}
if eos:
    pc["transactional.id"] = APP + "-0"
p = Producer(pc)
if eos:
    p.init_transactions(30)
acked = 0
last_t = 0.0
fail = None


def cb(e, m):
    global acked, last_t, fail
    if e is not None:
        fail = e
    else:
        acked += 1
        if acked == N:
            last_t = time.perf_counter()


c.subscribe([IN])
done = 0
offs = {}
t_commit = time.perf_counter()
open_ = False
while done < N:
    ms = c.consume(2000, 0.1)
    if ms:
        first()
        if eos and not open_:
            p.begin_transaction()
            open_ = True
        recs = []
        keys = []
        for m in ms:
            if m.error():
                raise RuntimeError(m.error())
            recs.append(decode(m.value()))
            keys.append(m.key())
            offs[(m.topic(), m.partition())] = m.offset() + 1
        s = score(np.array([row(r) for r in recs], dtype=np.float32)).tolist()
        now = int(time.time() * 1000)
        for r, k, v in zip(recs, keys, s):
            p.produce(OUT, encode(r["transaction_id"], v, now), k, on_delivery=cb)
        p.poll(0)
        done += len(ms)
    if offs and (time.perf_counter() - t_commit >= every or done >= N):
        tps = [TopicPartition(t, q, o) for (t, q), o in offs.items()]
        if eos:
            p.send_offsets_to_transaction(tps, c.consumer_group_metadata())
            p.commit_transaction()
            open_ = False
        else:
            p.flush()
            c.commit(offsets=tps, asynchronous=False)
        if fail:
            raise RuntimeError(fail)
        offs = {}
        t_commit = time.perf_counter()
c.close()
report(acked, last_t)
