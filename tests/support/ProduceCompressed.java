import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Publishes records with Kafka's own client: `ProduceCompressed BROKERS TOPIC COUNT CODEC…`, one partition a codec. */
class ProduceCompressed {
  public static void main(String[] args) {
    int count = Integer.parseInt(args[2]);
    for (int partition = 0; partition < args.length - 3; partition++) {
      Properties settings = new Properties();
      settings.put("bootstrap.servers", args[0]);
      settings.put("compression.type", args[3 + partition]);
      settings.putAll(Map.of("linger.ms", "200", "batch.size", "900000", "acks", "all"));
      ByteArraySerializer asIs = new ByteArraySerializer();
      try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(settings, asIs, asIs)) {
        for (int i = 0; i < count; i++) {
          byte[] key = i % 3 == 0 ? null : ("key-" + i).getBytes(StandardCharsets.UTF_8);
          long timestamp = 1_700_000_000_000L + i;
          ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(args[1], partition, timestamp, key, value(i));
          byte[] number = String.valueOf(i).getBytes(StandardCharsets.UTF_8);
          if (i % 4 == 0) record.headers().add("n", number).add("none", null);
          producer.send(record);
        }
      }
    }
  }

  /** Some kilobytes, half text that compresses, half noise that doesn't; every tenth has none. */
  static byte[] value(int i) {
    if (i % 10 == 7) return null;
    byte[] bytes = new byte[3000 + 10 * i];
    long state = i;
    for (int at = 0; at < bytes.length; at++) {
      state = (state * 1103515245L + 12345L) & 0x7fffffffL;
      bytes[at] = at % 256 < 128 ? (byte) ('a' + i % 26) : (byte) (state >> 16);
    }
    return bytes;
  }
}
