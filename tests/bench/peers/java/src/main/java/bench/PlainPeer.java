package bench;

import java.io.*;
import java.time.*;
import java.util.*;
import java.util.concurrent.atomic.*;
import org.apache.avro.io.*;
import org.apache.avro.specific.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.*;

/**
 * Hand-written consumer/producer, one thread, one ONNX run per poll (up to 1000 rows). --avro raw:
 * field-by-field BinaryDecoder.
 */
public final class PlainPeer {
  static final AtomicLong acked = new AtomicLong();
  static volatile long lastNs;
  static volatile Exception fail;

  public static void main(String[] a) throws Exception {
    String in = Common.opt(a, "in", "transactions"),
        out = Common.opt(a, "out", "predictions-plain"),
        gid = Common.opt(a, "app", "plain");
    boolean eos = Common.opt(a, "guarantee", "at_least_once").startsWith("exactly"),
        raw = Common.opt(a, "avro", "raw").equals("raw"),
        lat = Common.opt(a, "latency", "no").equals("yes");
    long n = Long.parseLong(Common.opt(a, "n", "1000000"));
    int cap = Integer.parseInt(Common.opt(a, "batch", "1000"));
    long commitNs = Long.parseLong(Common.opt(a, "commit", eos ? "100" : "1000")) * 1_000_000L;
    Map<String, Object> c =
        new HashMap<>(
            Map.of(
                "bootstrap.servers",
                Common.bootstrap(a),
                "group.id",
                gid,
                "auto.offset.reset",
                lat ? "latest" : "earliest",
                "enable.auto.commit",
                false,
                "max.poll.records",
                cap,
                "max.partition.fetch.bytes",
                4 << 20,
                "isolation.level",
                "read_committed"));
    Map<String, Object> p =
        new HashMap<>(
            Map.of(
                "bootstrap.servers",
                Common.bootstrap(a),
                "acks",
                "all",
                "batch.size",
                131072,
                "linger.ms",
                lat ? 5 : 50,
                "buffer.memory",
                67108864L));
    if (eos) p.put("transactional.id", gid + "-0");
    var consumer = new KafkaConsumer<>(c, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    var producer = new KafkaProducer<>(p, new ByteArraySerializer(), new ByteArraySerializer());
    if (eos) producer.initTransactions();
    Common.Model m = new Common.Model(Common.opt(a, "model", "model/model.onnx"));
    Common.Scorer s = new Common.Scorer(m, cap);
    SpecificDatumReader<Transaction> rd = new SpecificDatumReader<>(Transaction.class);
    SpecificDatumWriter<Prediction> wr = new SpecificDatumWriter<>(Prediction.class);
    BinaryDecoder d = null;
    BinaryEncoder e = null;
    ByteArrayOutputStream o = new ByteArrayOutputStream(128);
    Transaction tx = new Transaction();
    Prediction pred = new Prediction();
    Callback cb =
        (md, x) -> {
          if (x != null) fail = x;
          else if (acked.incrementAndGet() == n) lastNs = System.nanoTime();
        };
    String[] ids = new String[cap];
    byte[][] keys = new byte[cap][];
    Map<TopicPartition, OffsetAndMetadata> offs = new HashMap<>();
    consumer.subscribe(List.of(in));
    long first = 0, lastCommit = System.nanoTime(), done = 0;
    boolean open = false;
    if (lat) System.out.println("READY");
    while (lat || done < n) {
      var rs = consumer.poll(Duration.ofMillis(lat ? 20 : 100));
      if (!rs.isEmpty()) {
        if (first == 0) {
          Common.cpuFirst = Common.cpu();
          first = System.nanoTime();
        }
        if (eos && !open) {
          producer.beginTransaction();
          open = true;
        }
        int k = 0;
        for (ConsumerRecord<byte[], byte[]> r : rs) {
          byte[] v = r.value();
          if (v[0] != 0) throw new IllegalStateException("magic");
          d = DecoderFactory.get().binaryDecoder(v, 5, v.length - 5, d);
          if (raw) {
            ids[k] = d.readString();
            d.skipString();
            d.skipString();
            d.readLong();
            s.in.put((float) d.readDouble());
            d.skipString();
            for (int i = 0; i < 28; i++) s.in.put((float) d.readDouble());
          } else {
            tx = rd.read(tx, d);
            ids[k] = tx.getTransactionId();
            Common.features(tx, s.in);
          }
          keys[k++] = r.key();
        }
        s.run(k);
        long now = System.currentTimeMillis();
        for (int i = 0; i < k; i++) {
          o.reset();
          o.write(0);
          o.write(0);
          o.write(0);
          o.write(0);
          o.write(2);
          e = EncoderFactory.get().directBinaryEncoder(o, e);
          if (raw) {
            e.writeString(ids[i]);
            e.writeFloat(s.scores[i]);
            e.writeString(Common.MODEL_VERSION);
            e.writeLong(now);
          } else {
            pred.setTransactionId(ids[i]);
            pred.setScore(s.scores[i]);
            pred.setModelVersion(Common.MODEL_VERSION);
            pred.setScoredAt(Instant.ofEpochMilli(now));
            wr.write(pred, e);
          }
          producer.send(new ProducerRecord<>(out, keys[i], o.toByteArray()), cb);
        }
        for (TopicPartition tp : rs.partitions()) {
          var l = rs.records(tp);
          offs.put(tp, new OffsetAndMetadata(l.get(l.size() - 1).offset() + 1));
        }
        done += k;
      }
      if (fail != null) throw fail;
      if (!offs.isEmpty() && (System.nanoTime() - lastCommit > commitNs || (!lat && done >= n))) {
        if (eos) {
          producer.sendOffsetsToTransaction(offs, consumer.groupMetadata());
          producer.commitTransaction();
          open = false;
        } else {
          producer.flush();
          if (fail != null) throw fail;
          consumer.commitSync(offs);
        }
        offs = new HashMap<>();
        lastCommit = System.nanoTime();
      }
    }
    long end = System.nanoTime();
    producer.close();
    consumer.close();
    Common.report(
        "plain-java/" + (eos ? "exactly_once" : "at_least_once"), acked.get(), first, lastNs, end);
  }
}
