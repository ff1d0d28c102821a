package bench;

import java.util.Map;
import java.util.concurrent.*;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.producer.*;

/**
 * Counts broker acks of output records (producer interceptor), so Kafka Streams can be timed to its
 * last acked output.
 */
public final class AckCounter implements ProducerInterceptor<byte[], byte[]> {
  static final AtomicLong ACKED = new AtomicLong();
  static volatile long firstNs, lastNs;
  static long target;
  static String topic;
  static final CountDownLatch DONE = new CountDownLatch(1);

  public ProducerRecord<byte[], byte[]> onSend(ProducerRecord<byte[], byte[]> r) {
    return r;
  }

  public void onAcknowledgement(RecordMetadata m, Exception e) {
    if (e == null && m.topic().equals(topic) && ACKED.incrementAndGet() == target) {
      lastNs = System.nanoTime();
      DONE.countDown();
    }
  }

  public void close() {}

  public void configure(Map<String, ?> c) {}
}
