import { createRequire } from "node:module";
import type * as KafkaJs from "kafkajs";

/** kafkajs: CommonJS whose exports Node can't name. */
export const kafkajs = createRequire(import.meta.url)("kafkajs") as typeof KafkaJs;
