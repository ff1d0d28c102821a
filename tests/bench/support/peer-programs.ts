import type { Peers } from "./peers.js";

/** How a program of tests/bench/peers is started for a pair of topics: command, arguments, environment. */
export type PeerCommand = (topics: {
  input: string;
  output: string;
}) => [command: string, args: string[], env: Record<string, string>];

export interface PeerProgram {
  who: string;
  /** What it promises, in the words of tests/bench/peers/README.md. */
  guarantee: string;
  /** How many of the million it is given: the slow ones get fewer, and their CPU time is scaled. */
  records: number;
  /** The Python environment that it needs; null: Java. */
  environment: string | null;
  command: PeerCommand;
}

const MILLION = 1_000_000;
const QUIX_RECORDS = 100_000;
const FAUST_RECORDS = 20_000;

/** The hand-written Java peer; decodes field by field. */
export function plainJava(peers: Peers, bootstrap: string, guarantee: string): PeerCommand {
  return java(peers, bootstrap, "bench.PlainPeer", { guarantee, avro: "raw" });
}

/** Every program of tests/bench/peers, with the options of its peers.py. */
export function peerPrograms(peers: Peers, bootstrap: string): PeerProgram[] {
  const of = (
    who: string,
    guarantee: string,
    command: PeerCommand,
    environment: string | null = null,
    records = MILLION,
  ): PeerProgram => ({ who, guarantee, records, environment, command });
  const streams = (mode: string, guarantee: string): PeerCommand =>
    java(peers, bootstrap, "bench.StreamsPeer", { guarantee, mode, threads: "1", tmp: `${peers.folder}/tmp` });
  const python =
    (environment: string, script: string, records: number, env: Record<string, string>): PeerCommand =>
    (topics) => [
      `${peers.folder}/${environment}/bin/python`,
      [`${peers.folder}/python/${script}`],
      {
        BOOTSTRAP: bootstrap,
        IN: topics.input,
        OUT: topics.output,
        APP: topics.output,
        OMP_NUM_THREADS: "1",
        N: String(records),
        ...env,
      },
    ];
  const AT_LEAST_ONCE = "at least once",
    EXACTLY_ONCE = "exactly once";
  return [
    of("plain Java", EXACTLY_ONCE, plainJava(peers, bootstrap, "exactly_once")),
    of("plain Java", AT_LEAST_ONCE, plainJava(peers, bootstrap, "at_least_once")),
    of("Kafka Streams, per record", EXACTLY_ONCE, streams("record", "exactly_once_v2")),
    of("Kafka Streams, per record", AT_LEAST_ONCE, streams("record", "at_least_once")),
    of("Kafka Streams, 256 at a time", "none: a crash loses its buffer", streams("micro", "exactly_once_v2")),
    of(
      "Python, librdkafka",
      EXACTLY_ONCE,
      python("venv-bytewax", "confluent_batch.py", MILLION, { GUARANTEE: "exactly_once" }),
      "venv-bytewax",
    ),
    of(
      "Python, librdkafka",
      AT_LEAST_ONCE,
      python("venv-bytewax", "confluent_batch.py", MILLION, { GUARANTEE: "at_least_once" }),
      "venv-bytewax",
    ),
    of("Bytewax", AT_LEAST_ONCE, python("venv-bytewax", "bytewax_peer.py", MILLION, { RECOVERY: "1" }), "venv-bytewax"),
    of(
      "Quix Streams",
      EXACTLY_ONCE,
      python("venv-quix", "quix.py", QUIX_RECORDS, { GUARANTEE: "exactly-once" }),
      "venv-quix",
      QUIX_RECORDS,
    ),
    of(
      "Quix Streams",
      AT_LEAST_ONCE,
      python("venv-quix", "quix.py", QUIX_RECORDS, { GUARANTEE: "at-least-once" }),
      "venv-quix",
      QUIX_RECORDS,
    ),
    of(
      "Faust",
      EXACTLY_ONCE,
      python("venv-faust", "faust_peer.py", FAUST_RECORDS, { GUARANTEE: "exactly_once" }),
      "venv-faust",
      FAUST_RECORDS,
    ),
    of(
      "Faust",
      AT_LEAST_ONCE,
      python("venv-faust", "faust_peer.py", FAUST_RECORDS, { GUARANTEE: "at_least_once" }),
      "venv-faust",
      FAUST_RECORDS,
    ),
  ];
}

function java(peers: Peers, bootstrap: string, main: string, options: Record<string, string>): PeerCommand {
  return ({ input, output }) => {
    const all = { in: input, out: output, app: output, bootstrap, ...options };
    return [...peers.java(main, ...Object.entries(all).flatMap(([name, value]) => [`--${name}`, value])), {}];
  };
}
