import { once } from "node:events";
import { createServer, type AddressInfo } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { checkReachable } from "../../../infra/reachable.js";

const kafkaAt = (...brokers: string[]) => ({ kafka: { brokers, ssl: false, sasl: null }, clickhouse: null });
const clickhouseAt = (url: string) => ({ kafka: null, clickhouse: { url, username: "default", password: "", database: "fraud" } });

test("names the address and the setting where nobody answers, at once", async () => {
  const server = createServer().listen(0, "127.0.0.1");
  onTestFinished(() => void server.close());
  await once(server, "listening");
  const here = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  await checkReachable(kafkaAt("127.0.0.1:1", here), 1_000);
  await checkReachable(clickhouseAt(`http://${here}`), 1_000);
  await expect(checkReachable(kafkaAt("127.0.0.1:1", "127.0.0.1:2"), 1_000)).rejects.toMatchObject({ code: "unreachable", message: expect.stringMatching(/^KAFKA_BROKERS is 127\.0\.0\.1:1,127\.0\.0\.1:2, where nobody answers \(ECONNREFUSED\)/) as string });
  await expect(checkReachable(clickhouseAt("http://u:hidden@127.0.0.1:1"), 1_000)).rejects.toMatchObject({ code: "unreachable", message: expect.stringMatching(/^CLICKHOUSE_URL is http:\/\/…@127\.0\.0\.1:1, where nobody/) as string });
  await expect(checkReachable(clickhouseAt("http://nowhere.invalid:8123"), 3_000)).rejects.toMatchObject({ code: "unreachable" });
});
