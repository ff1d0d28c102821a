import type { ClickHouseConfig, Config, KafkaConfig } from "../../../infra/config/config.js";
import type { Logger } from "../../../infra/logging.js";

/** What every benchmark is given. */
export interface BenchContext {
  config: Config;
  kafka: KafkaConfig;
  clickhouse: ClickHouseConfig;
  log: Logger;
  print: (line: string) => void;
  /** `only`: parts of peers' names, in lower case; none: all. */
  options: { runs: number; peer: boolean; only: string[]; curve: boolean };
}
