package bench;

import java.time.Duration;
import java.util.*;
import java.util.concurrent.ExecutionException;
import org.apache.avro.io.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.*;

/**
 * create|delete TOPIC..., verify TOPIC (read_committed: count, distinct ids, score sum), size
 * TOPIC.
 */
public final class Tool {
  public static void main(String[] a) throws Exception {
    String cmd = a[0];
    List<String> topics = new ArrayList<>();
    for (int i = 1; i < a.length; i++) {
      if (a[i].startsWith("--")) {
        i++;
        continue;
      }
      topics.add(a[i]);
    }
    try (Admin ad = Admin.create(Map.of("bootstrap.servers", Common.bootstrap(a)))) {
      switch (cmd) {
        case "create" -> {
          for (String t : topics)
            try {
              ad.createTopics(List.of(new NewTopic(t, 4, (short) 1))).all().get();
            } catch (ExecutionException e) {
              System.err.println(t + ": " + e.getCause().getMessage());
            }
        }
        case "delete" -> {
          for (String t : topics)
            try {
              ad.deleteTopics(List.of(t)).all().get();
            } catch (ExecutionException e) {
              System.err.println(t + ": " + e.getCause().getMessage());
            }
        }
        case "size" -> {
          long n = 0;
          for (int i = 0; i < 4; i++)
            n +=
                ad.listOffsets(Map.of(new TopicPartition(topics.get(0), i), OffsetSpec.latest()))
                    .all()
                    .get()
                    .values()
                    .iterator()
                    .next()
                    .offset();
          System.out.println(n);
        }
        case "verify" -> {
          try (var c =
              new KafkaConsumer<>(
                  Map.of(
                      "bootstrap.servers",
                      Common.bootstrap(a),
                      "isolation.level",
                      "read_committed",
                      "enable.auto.commit",
                      false,
                      "max.poll.records",
                      5000),
                  new ByteArrayDeserializer(),
                  new ByteArrayDeserializer())) {
            List<TopicPartition> tps = new ArrayList<>();
            for (int i = 0; i < 4; i++) tps.add(new TopicPartition(topics.get(0), i));
            c.assign(tps);
            c.seekToBeginning(tps);
            var end = c.endOffsets(tps);
            long n = 0;
            double sum = 0;
            HashSet<Long> ids = new HashSet<>(1 << 21);
            BinaryDecoder d = null;
            long t0 = System.nanoTime();
            while (System.nanoTime() - t0 < 120e9) {
              for (var r : c.poll(Duration.ofMillis(200))) {
                byte[] v = r.value();
                if (v[0] != 0 || v[4] != 2) throw new IllegalStateException("wire format");
                d = DecoderFactory.get().binaryDecoder(v, 5, v.length - 5, d);
                UUID u = UUID.fromString(d.readString());
                ids.add(u.getMostSignificantBits());
                sum += d.readFloat();
                if (!d.readString().equals("m1")) throw new IllegalStateException("version");
                d.readLong();
                if (!d.isEnd()) throw new IllegalStateException("trailing");
                n++;
              }
              boolean all = true;
              for (var tp : tps) all &= c.position(tp) >= end.get(tp);
              if (all) break;
            }
            System.out.printf(
                Locale.ROOT,
                "{\"count\":%d,\"distinct\":%d,\"score_sum\":%.2f}%n",
                n,
                ids.size(),
                sum);
          }
        }
        default -> throw new IllegalArgumentException(cmd);
      }
    }
  }
}
