package bench;

import ai.onnxruntime.*;
import java.nio.*;
import java.util.*;

final class Common {
  static final int F = 29;
  static final String MODEL_VERSION = "m1";

  static String opt(String[] a, String k, String d) {
    for (int i = 0; i + 1 < a.length; i++) if (a[i].equals("--" + k)) return a[i + 1];
    return d;
  }

  static String bootstrap(String[] a) {
    return opt(a, "bootstrap", "127.0.0.1:29092");
  }

  static void features(Transaction t, FloatBuffer b) {
    b.put((float) t.getAmount())
        .put((float) t.getV1())
        .put((float) t.getV2())
        .put((float) t.getV3())
        .put((float) t.getV4())
        .put((float) t.getV5())
        .put((float) t.getV6())
        .put((float) t.getV7())
        .put((float) t.getV8())
        .put((float) t.getV9())
        .put((float) t.getV10())
        .put((float) t.getV11())
        .put((float) t.getV12())
        .put((float) t.getV13())
        .put((float) t.getV14())
        .put((float) t.getV15())
        .put((float) t.getV16())
        .put((float) t.getV17())
        .put((float) t.getV18())
        .put((float) t.getV19())
        .put((float) t.getV20())
        .put((float) t.getV21())
        .put((float) t.getV22())
        .put((float) t.getV23())
        .put((float) t.getV24())
        .put((float) t.getV25())
        .put((float) t.getV26())
        .put((float) t.getV27())
        .put((float) t.getV28());
  }

  /**
   * One ONNX session, one intra-op thread. Batch buffers are direct so tensors wrap them without a
   * copy.
   */
  static final class Model implements AutoCloseable {
    final OrtEnvironment env = OrtEnvironment.getEnvironment();
    final OrtSession session;

    Model(String path) throws OrtException {
      OrtSession.SessionOptions so = new OrtSession.SessionOptions();
      so.setIntraOpNumThreads(1);
      so.setInterOpNumThreads(1);
      session = env.createSession(path, so);
    }

    public void close() throws OrtException {
      session.close();
    }
  }

  static final class Scorer {
    private final Model m;
    final int cap;
    final FloatBuffer in;
    private final FloatBuffer whole;
    private final OnnxTensor fixed;
    private final Map<String, OnnxTensor> fixedIn;
    private static final Set<String> OUT = Set.of("probabilities");
    float[] scores;

    Scorer(Model m, int cap) throws OrtException {
      this.m = m;
      this.cap = cap;
      scores = new float[cap];
      whole = ByteBuffer.allocateDirect(cap * F * 4).order(ByteOrder.nativeOrder()).asFloatBuffer();
      in = whole.duplicate();
      fixed = OnnxTensor.createTensor(m.env, whole.duplicate(), new long[] {cap, F});
      fixedIn = Map.of("features", fixed);
    }

    /**
     * Scores the n rows written to {@code in}; resets it. The tensor is reused when the batch is
     * full (incl. cap = 1).
     */
    void run(int n) throws OrtException {
      if (n == 0) return;
      if (n == cap) read(fixedIn, n);
      else {
        FloatBuffer v = whole.duplicate();
        v.limit(n * F);
        try (OnnxTensor t = OnnxTensor.createTensor(m.env, v, new long[] {n, F})) {
          read(Map.of("features", t), n);
        }
      }
      in.clear();
    }

    private void read(Map<String, OnnxTensor> input, int n) throws OrtException {
      try (OrtSession.Result r = m.session.run(input, OUT)) {
        FloatBuffer p = ((OnnxTensor) r.get(0)).getFloatBuffer();
        for (int i = 0; i < n; i++) scores[i] = p.get(2 * i + 1);
      }
    }
  }

  static double cpu() {
    return ((com.sun.management.OperatingSystemMXBean)
                java.lang.management.ManagementFactory.getOperatingSystemMXBean())
            .getProcessCpuTime()
        / 1e9;
  }

  static volatile double cpuFirst;

  static void report(String peer, long n, long firstNs, long lastNs, long endNs) {
    System.out.printf(
        Locale.ROOT,
        "RESULT"
            + " {\"peer\":\"%s\",\"records\":%d,\"wall_s\":%.3f,\"wall_to_end_s\":%.3f,\"cpu_at_first_s\":%.2f}%n",
        peer,
        n,
        (lastNs - firstNs) / 1e9,
        (endNs - firstNs) / 1e9,
        cpuFirst);
    System.out.flush();
  }
}
