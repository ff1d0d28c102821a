package bench;

import ai.onnxruntime.OrtException;
import java.io.*;
import java.nio.file.*;
import java.time.*;
import java.util.*;
import org.apache.avro.io.*;
import org.apache.avro.specific.*;
import org.apache.kafka.common.serialization.*;
import org.apache.kafka.streams.*;
import org.apache.kafka.streams.kstream.*;
import org.apache.kafka.streams.processor.PunctuationType;
import org.apache.kafka.streams.processor.api.*;

/**
 * Kafka Streams peer: SpecificRecord serdes, ONNX scoring per record (idiomatic) or micro-batched
 * in a Processor.
 */
public final class StreamsPeer {
  /** Coder state is per thread: Kafka Streams calls one serde instance from every stream thread. */
  static final class Coder<T extends SpecificRecordBase> {
    final SpecificDatumWriter<T> w;
    final SpecificDatumReader<T> r;
    final ByteArrayOutputStream o = new ByteArrayOutputStream(256);
    BinaryEncoder e;
    BinaryDecoder d;

    Coder(Class<T> c) {
      w = new SpecificDatumWriter<>(c);
      r = new SpecificDatumReader<>(c);
    }
  }

  static <T extends SpecificRecordBase> Serde<T> serde(Class<T> cls, int id) {
    ThreadLocal<Coder<T>> tl = ThreadLocal.withInitial(() -> new Coder<>(cls));
    Serializer<T> ser =
        (t, v) -> {
          Coder<T> c = tl.get();
          try {
            c.o.reset();
            c.o.write(0);
            c.o.write(0);
            c.o.write(0);
            c.o.write(0);
            c.o.write(id);
            c.e = EncoderFactory.get().directBinaryEncoder(c.o, c.e);
            c.w.write(v, c.e);
            return c.o.toByteArray();
          } catch (IOException x) {
            throw new UncheckedIOException(x);
          }
        };
    Deserializer<T> de =
        (t, b) -> {
          Coder<T> c = tl.get();
          try {
            if (b[0] != 0) throw new IllegalStateException("magic");
            c.d = DecoderFactory.get().binaryDecoder(b, 5, b.length - 5, c.d);
            return c.r.read(null, c.d);
          } catch (IOException x) {
            throw new UncheckedIOException(x);
          }
        };
    return Serdes.serdeFrom(ser, de);
  }

  static void first() {
    if (AckCounter.firstNs == 0) {
      Common.cpuFirst = Common.cpu();
      AckCounter.firstNs = System.nanoTime();
    }
  }

  static final class PerRecord implements FixedKeyProcessor<byte[], Transaction, Prediction> {
    final Common.Model m;
    Common.Scorer s;
    FixedKeyProcessorContext<byte[], Prediction> c;

    PerRecord(Common.Model m) {
      this.m = m;
    }

    public void init(FixedKeyProcessorContext<byte[], Prediction> c) {
      this.c = c;
      try {
        s = new Common.Scorer(m, 1);
      } catch (OrtException e) {
        throw new RuntimeException(e);
      }
    }

    public void process(FixedKeyRecord<byte[], Transaction> r) {
      first();
      try {
        Common.features(r.value(), s.in);
        s.run(1);
      } catch (OrtException e) {
        throw new RuntimeException(e);
      }
      c.forward(
          r.withValue(
              new Prediction(
                  r.value().getTransactionId(),
                  s.scores[0],
                  Common.MODEL_VERSION,
                  Instant.ofEpochMilli(System.currentTimeMillis()))));
    }
  }

  /**
   * Buffers in memory: faster, but a commit between process() and flush() covers unscored records,
   * so a crash can lose them.
   */
  static final class Micro implements FixedKeyProcessor<byte[], Transaction, Prediction> {
    final Common.Model m;
    final int cap;
    final ArrayList<FixedKeyRecord<byte[], Transaction>> buf;
    Common.Scorer s;
    FixedKeyProcessorContext<byte[], Prediction> c;
    final int punctMs;

    Micro(Common.Model m, int cap, int punctMs) {
      this.m = m;
      this.cap = cap;
      this.punctMs = punctMs;
      buf = new ArrayList<>(cap);
    }

    public void init(FixedKeyProcessorContext<byte[], Prediction> c) {
      this.c = c;
      try {
        s = new Common.Scorer(m, cap);
      } catch (OrtException e) {
        throw new RuntimeException(e);
      }
      c.schedule(Duration.ofMillis(punctMs), PunctuationType.WALL_CLOCK_TIME, t -> flush());
    }

    public void process(FixedKeyRecord<byte[], Transaction> r) {
      first();
      buf.add(r);
      Common.features(r.value(), s.in);
      if (buf.size() == cap) flush();
    }

    void flush() {
      if (buf.isEmpty()) return;
      try {
        s.run(buf.size());
      } catch (OrtException e) {
        throw new RuntimeException(e);
      }
      Instant now = Instant.ofEpochMilli(System.currentTimeMillis());
      for (int i = 0; i < buf.size(); i++)
        c.forward(
            buf.get(i)
                .withValue(
                    new Prediction(
                        buf.get(i).value().getTransactionId(),
                        s.scores[i],
                        Common.MODEL_VERSION,
                        now)));
      buf.clear();
    }
  }

  public static void main(String[] a) throws Exception {
    String app = Common.opt(a, "app", "streams"),
        in = Common.opt(a, "in", "transactions"),
        out = Common.opt(a, "out", "predictions-streams");
    String pg = Common.opt(a, "guarantee", "at_least_once"), mode = Common.opt(a, "mode", "record");
    boolean lat = Common.opt(a, "latency", "no").equals("yes");
    AckCounter.target = Long.parseLong(Common.opt(a, "n", "1000000"));
    AckCounter.topic = out;
    Path state = Files.createTempDirectory(Path.of(Common.opt(a, "tmp", "/tmp")), "kstreams");
    Properties p = new Properties();
    p.put(StreamsConfig.APPLICATION_ID_CONFIG, app);
    p.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, Common.bootstrap(a));
    p.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, pg);
    p.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, Common.opt(a, "threads", "1"));
    p.put(StreamsConfig.STATE_DIR_CONFIG, state.toString());
    p.put(StreamsConfig.consumerPrefix("auto.offset.reset"), lat ? "latest" : "earliest");
    if (!lat) {
      p.put(StreamsConfig.consumerPrefix("max.poll.records"), 4000);
      p.put(StreamsConfig.consumerPrefix("max.partition.fetch.bytes"), 4 << 20);
      p.put(StreamsConfig.BUFFERED_RECORDS_PER_PARTITION_CONFIG, 4000);
      p.put(StreamsConfig.producerPrefix("batch.size"), 131072);
      p.put(StreamsConfig.producerPrefix("linger.ms"), 50);
    } else {
      p.put(StreamsConfig.producerPrefix("linger.ms"), Common.opt(a, "linger", "5"));
      if (a.length > 0 && !Common.opt(a, "commit", "").isEmpty())
        p.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, Common.opt(a, "commit", ""));
    }
    p.put(StreamsConfig.producerPrefix("interceptor.classes"), AckCounter.class.getName());
    Common.Model m = new Common.Model(Common.opt(a, "model", "model/model.onnx"));
    int cap = Integer.parseInt(Common.opt(a, "batch", "256"));
    StreamsBuilder b = new StreamsBuilder();
    KStream<byte[], Transaction> src =
        b.stream(in, Consumed.with(Serdes.ByteArray(), serde(Transaction.class, 1)));
    KStream<byte[], Prediction> dst =
        mode.equals("record")
            ? src.processValues(() -> new PerRecord(m))
            : src.processValues(() -> new Micro(m, cap, lat ? 10 : 50));
    dst.to(out, Produced.with(Serdes.ByteArray(), serde(Prediction.class, 2)));
    KafkaStreams ks = new KafkaStreams(b.build(), p);
    ks.setUncaughtExceptionHandler(
        e -> {
          e.printStackTrace();
          Runtime.getRuntime().halt(3);
          return null;
        });
    ks.start();
    if (lat) {
      System.out.println("READY");
      Thread.sleep(Long.MAX_VALUE);
    }
    AckCounter.DONE.await();
    ks.close(Duration.ofSeconds(30));
    Common.report(
        "kstreams/" + mode + "/" + pg,
        AckCounter.ACKED.get(),
        AckCounter.firstNs,
        AckCounter.lastNs,
        System.nanoTime());
    try (var s = Files.walk(state)) {
      s.sorted(Comparator.reverseOrder()).forEach(f -> f.toFile().delete());
    }
  }
}
