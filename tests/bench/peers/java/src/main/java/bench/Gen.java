package bench;

import java.io.*;
import java.util.*;
import org.apache.avro.io.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Deterministic generator: 1,000,000 Avro transactions in Confluent wire format (magic 0 + schema
 * id 1), keyed by card.
 */
public final class Gen {
  static long mix(long z) {
    z += 0x9E3779B97F4A7C15L;
    z = (z ^ (z >>> 30)) * 0xBF58476D1CE4E5B9L;
    z = (z ^ (z >>> 27)) * 0x94D049BB133111EBL;
    return z ^ (z >>> 31);
  }

  static String txId(long i) {
    return new UUID(mix(2 * i), mix(2 * i + 1)).toString();
  }

  static final String[] CUR = {"EUR", "USD", "GBP", "CHF"};

  /** Field-by-field encode of the same record (used by the latency probe too). */
  static final class Enc {
    final Random r;
    final ByteArrayOutputStream o = new ByteArrayOutputStream(512);
    final BinaryEncoder e = EncoderFactory.get().directBinaryEncoder(o, null);
    String card;

    Enc(long seed) {
      r = new Random(seed);
    }

    byte[] record(long i, long time) throws IOException {
      o.reset();
      o.write(0);
      o.write(0);
      o.write(0);
      o.write(0);
      o.write(1);
      card = String.format("card_%06d", r.nextInt(50_000));
      e.writeString(txId(i));
      e.writeString(card);
      e.writeString(String.format("m_%05d", r.nextInt(5_000)));
      e.writeLong(time);
      e.writeDouble(Math.round(Math.exp(3.2 + 1.3 * r.nextGaussian()) * 100) / 100.0);
      e.writeString(CUR[r.nextInt(4)]);
      for (int k = 0; k < 28; k++) e.writeDouble(r.nextGaussian());
      e.flush();
      return o.toByteArray();
    }
  }

  public static void main(String[] a) throws Exception {
    int n = Integer.parseInt(Common.opt(a, "n", "1000000"));
    Properties p = new Properties();
    p.put("bootstrap.servers", Common.bootstrap(a));
    p.put("acks", "all");
    p.put("batch.size", 262144);
    p.put("linger.ms", 20);
    p.put("buffer.memory", 134217728L);
    Enc enc = new Enc(42);
    long t0 = System.nanoTime(), bytes = 0, base = 1_700_000_000_000L;
    try (KafkaProducer<byte[], byte[]> pr =
        new KafkaProducer<>(p, new ByteArraySerializer(), new ByteArraySerializer())) {
      for (int i = 0; i < n; i++) {
        byte[] v = enc.record(i, base + i);
        bytes += v.length;
        pr.send(
            new ProducerRecord<>(Common.opt(a, "topic", "transactions"), enc.card.getBytes(), v));
      }
    }
    System.out.printf(
        "generated %d records, mean value %d bytes, %.1f s%n",
        n, bytes / n, (System.nanoTime() - t0) / 1e9);
  }
}
