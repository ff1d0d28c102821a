import { expect, it, onTestFinished } from "vitest";
import { partitionOf } from "../../infra/kafka/batch-producer.js";
import { clickhouseConfig } from "../support/engines.js";
import { startTestApi, type TestApi } from "../support/api.js";
import { anotherApi, openModelsApi, put } from "../support/models-api.js";
import { logistic } from "../support/models.js";
import { transaction, wireValue } from "../support/transactions.js";
import { eventually } from "../support/eventually.js";
import { RoleProcess } from "../support/workers.js";

interface Browsed {
  total: number;
  next_cursor: string | null;
  causes: { code: string; count: number }[];
  dead_letters: {
    decoded: unknown;
    partition: number;
    offset: number;
    at: string;
    value: string;
    attempt: number;
    replayed: { who: string } | null;
  }[];
}
interface Replayed {
  replayed: object[];
  skipped: { reason: string }[];
  more: boolean;
}

const UNKNOWN = 999;

it("large ones are returned one page at a time, newest first, and the answer says that there are more", async () => {
  const api = await startTestApi({ migrated: true });
  const { clickhouse, topics } = api.context;
  onTestFinished(() => clickhouse.command(`DROP DATABASE IF EXISTS ${api.database}`));
  await clickhouse.command(
    "INSERT INTO dead_letters (topic, partition, offset, at, code, value) SELECT " +
      `'${topics.deadLetters.name}', 0, number, now64(3) - 20 + number, 'large', repeat(repeat('x', 4000), ` +
      "1000) FROM numbers(20)",
  );
  const browse = async (query: string): Promise<Browsed & { more: boolean }> =>
    (await api.inject("operator", { url: `/api/v1/dead-letters?${query}` })).json();
  const { dead_letters: newest, more, causes } = await browse("limit=500");
  expect(newest.map(({ offset }) => offset)).toEqual([19, 18, 17, 16, 15, 14, 13, 12, 11]);
  expect({ more, causes }).toEqual({ more: true, causes: [{ code: "large", count: 20 }] });
  const { dead_letters: oldest } = await browse(`to=${newest[8].at}&limit=500`);
  expect(oldest.map(({ offset }) => offset)).toEqual([11, 10, 9, 8, 7, 6, 5, 4, 3]);
  const pages = [];
  for (let cursor: string | null = ""; cursor !== null;) {
    const page: Browsed = await browse(`limit=500${cursor === "" ? "" : `&cursor=${cursor}`}`);
    pages.push(...page.dead_letters.map(({ offset }) => offset));
    expect(page.total).toBe(20);
    cursor = page.next_cursor;
  }
  expect(pages).toEqual(Array.from({ length: 20 }, (_, i) => 19 - i));
  expect(await browse(`to=${oldest[8].at}`)).toMatchObject({
    more: false,
    dead_letters: [3, 2, 1, 0].map((offset) => ({ offset })),
  });
});

it(
  "dead letters are browsed, and sent again once however often and wherever it is asked; labels find " + "their cards",
  async () => {
    const { system, api } = await openModelsApi();
    const copies: TestApi[] = [api, await anotherApi(system)];
    const { url, username, password, database } = clickhouseConfig(api.database);
    const sink = new RoleProcess("sink", {
      ...system.settings,
      CLICKHOUSE_URL: url,
      CLICKHOUSE_USER: username,
      CLICKHOUSE_PASSWORD: password,
      CLICKHOUSE_DATABASE: database,
    });
    onTestFinished(() => sink.kill());
    await system.register("first@1", logistic());
    system.startWorker();
    expect((await put(api, "/models/first@1/enabled", { enabled: true, role: "champion" })).status).toBe(200);
    await sink.logged("storing in ClickHouse");

    const bad = [1, 2, 3].map((i) => ({ key: Buffer.from(`c${i}`), value: wireValue(transaction(i), UNKNOWN) }));
    const first = await system.publishTo(0, [...bad, { key: Buffer.from("c9"), value: Buffer.from("hello") }]);
    const browse = async (query: string): Promise<Browsed> =>
      (await api.inject("operator", { url: `/api/v1/dead-letters?${query}` })).json<Browsed>();
    const stored = await eventually("the dead letters are stored", async () => {
      const found = await browse("code=unknown_schema");
      return found.dead_letters.length === 3 && found;
    });
    expect(stored.causes).toEqual([{ code: "unknown_schema", count: 3 }]);
    expect(stored.dead_letters.map(({ value, attempt, replayed }) => [value, attempt, replayed]).sort()).toEqual(
      bad.map(({ value }) => [value.toString("base64"), 1, null]).sort(),
    );
    expect((await browse("")).causes).toEqual([
      { code: "unknown_schema", count: 3 },
      { code: "unknown_format", count: 1 },
    ]);
    expect((await browse(`to=2001-01-01T00:00:00Z`)).dead_letters).toEqual([]);
    expect(
      (
        await api.inject("analyst", {
          method: "POST",
          url: "/api/v1/dead-letters/replay",
          payload: { code: "unknown_schema" },
        })
      ).statusCode,
    ).toBe(403);

    // One of them, then all of the cause, from both copies at once and again.
    const [{ partition, offset }] = stored.dead_letters;
    const replay = async (copy: TestApi, payload: object): Promise<Replayed> => {
      const answer = await copy.inject("operator", { method: "POST", url: "/api/v1/dead-letters/replay", payload });
      // Whoever takes the one transactional id over fences the others, who may ask again.
      if (answer.statusCode === 409) return replay(copy, payload);
      expect(answer.statusCode, answer.body).toBe(200);
      return answer.json<Replayed>();
    };
    expect(
      await replay(api, {
        dead_letters: [
          { partition, offset },
          { partition, offset: 10_000 },
        ],
      }),
    ).toEqual({
      replayed: [{ partition, offset }],
      skipped: [{ partition, offset: 10_000, reason: "not_found" }],
      more: false,
    });
    const all = await Promise.all(
      [...copies, ...copies].map((copy) =>
        replay(copy, {
          dead_letters: stored.dead_letters.map((letter) => ({ partition: letter.partition, offset: letter.offset })),
        }),
      ),
    );
    expect(all.flatMap(({ replayed }) => replayed)).toHaveLength(2);
    expect(new Set(all.flatMap(({ skipped }) => skipped.map(({ reason }) => reason)))).toEqual(
      new Set(["already_replayed"]),
    );
    await system.consumed();
    const sentAgain = (await system.read(system.topics.transactions)).filter(
      (record) => record.partition === 0 && record.offset >= first + 4,
    );
    expect(sentAgain.map(({ value, headers }) => [value?.toString("base64"), headers["attempt"]]).sort()).toEqual(
      bad.map(({ value }) => [value.toString("base64"), "2"]).sort(),
    );
    const again = await eventually("they have come back", async () => {
      const { dead_letters } = await browse("code=unknown_schema");
      return dead_letters.length === 6 && dead_letters;
    });
    expect(again.map(({ attempt, replayed }) => [attempt, replayed === null]).sort()).toEqual([
      [1, false],
      [1, false],
      [1, false],
      [2, true],
      [2, true],
      [2, true],
    ]);
    const ofCause = await replay(api, { code: "unknown_schema" });
    expect([ofCause.replayed.length, ofCause.skipped, ofCause.more]).toEqual([3, [], false]);

    // A cause that there is none of is told what there is.
    const misspelt = await api.inject("operator", {
      method: "POST",
      url: "/api/v1/dead-letters/replay",
      payload: { code: "malformed" },
    });
    expect([misspelt.statusCode, misspelt.json()]).toMatchObject([
      400,
      {
        code: "invalid_request",
        errors: [
          {
            field: "code",
            message: "no dead letter has this cause; those that there are: unknown_format, unknown_schema",
          },
        ],
      },
    ]);

    // What can be read is shown decoded, and what it should have said is sent once, in its place.
    const wrong = {
      ...transaction(7),
      card_id: "4111111111111111",
      event_time: "1999-12-31T23:59:59Z",
      attributes: {},
    };
    await system.publishTo(0, [{ key: Buffer.from("c7"), value: Buffer.from(JSON.stringify(wrong)) }]);
    const letter = await eventually("it is a dead letter", async () =>
      (await browse("code=event_time_early")).dead_letters.at(0),
    );
    expect(letter).toMatchObject({
      decoded: { transaction_id: wrong.transaction_id, card_id: "[card number]", merchant_id: wrong.merchant_id },
    });
    const mend = (payload: object) =>
      api.inject("operator", {
        method: "POST",
        url: `/api/v1/dead-letters/${letter.partition}/${letter.offset}/mend`,
        payload,
      });
    const mended = {
      transaction: {
        transaction_id: "mended",
        event_time: Date.now(),
        card_id: "c7",
        merchant_id: "m",
        amount: 5,
        currency: "EUR",
      },
    };
    expect((await mend({ transaction: { ...mended.transaction, amount: "5" } })).statusCode).toBe(400);
    expect((await mend({ label: { transaction_id: "mended", card_id: "c7", is_fraud: true } })).json()).toMatchObject({
      status: 400,
      errors: [{ field: "label" }],
    });
    // Ids have at most 256 bytes, and times are some that the table of labels can hold.
    const [long, longest] = ["é".repeat(129), "é".repeat(128)];
    const mendedLabel = { transaction_id: "mended", card_id: "c7", is_fraud: true };
    for (const [field, value] of Object.entries({
      transaction_id: long,
      card_id: long,
      label_time: "2016-12-31T23:59:60Z",
    })) {
      expect((await mend({ label: { ...mendedLabel, [field]: value } })).json(), field).toMatchObject({
        status: 400,
        errors: [{ field: `label.${field}` }],
      });
    }
    expect((await mend({ label: { ...mendedLabel, transaction_id: longest, card_id: longest } })).json()).toMatchObject(
      {
        status: 400,
        errors: [{ field: "label", code: "source" }],
      },
    );
    const answers = await Promise.all([mend(mended), mend(mended), mend(mended)]);
    expect(answers.map(({ statusCode }) => statusCode).sort(), answers[0].body).toEqual([200, 409, 409]);
    expect(
      (await replay(api, { dead_letters: [{ partition: letter.partition, offset: letter.offset }] })).skipped,
    ).toMatchObject([{ reason: "already_replayed" }]);
    const scored = await eventually("it is scored", async () => {
      const answer = await api.inject("analyst", { url: "/api/v1/predictions/mended" });
      return (
        answer.statusCode === 200 &&
        answer.json<{ status: string; prediction: { features: number[]; named_features: Record<string, number> } }>()
          .status === "scored" &&
        answer.json<{ prediction: { features: number[]; named_features: Record<string, number> } }>().prediction
      );
    });
    expect(Object.values(scored.named_features)).toEqual(scored.features);
    const [sent] = (await system.read(system.topics.transactions)).filter(
      ({ headers }) =>
        headers["fraudstream-redrive-of"] === `${system.topics.deadLetters.name}/${letter.partition}/${letter.offset}`,
    );
    expect([sent.key?.toString(), sent.headers["attempt"]]).toEqual(["c7", "2"]);
    expect((await browse("code=event_time_early")).dead_letters[0].replayed).toMatchObject({
      who_name: expect.stringMatching(/^operator-/) as string,
    });

    // A label needs no card once the prediction is stored.
    const payment = {
      transaction_id: "p-1",
      event_time: Date.now(),
      card_id: "card-of-p-1",
      merchant_id: "m",
      amount: 5,
      currency: "EUR",
    };
    expect(
      (await api.inject("service", { method: "POST", url: "/api/v1/predictions", payload: payment })).statusCode,
    ).toBe(200);
    const label = (payload: object | object[]) =>
      api.inject("service", { method: "POST", url: "/api/v1/labels", payload });
    await eventually(
      "the label finds its card",
      async () => (await label({ transaction_id: "p-1", is_fraud: true })).statusCode === 202,
    );
    const unknown = await label([
      { transaction_id: "p-1", is_fraud: false },
      { transaction_id: "nobody's", is_fraud: true },
    ]);
    expect([unknown.statusCode, unknown.json()]).toMatchObject([
      422,
      { code: "unknown_card", errors: [{ field: "[1].card_id" }] },
    ]);
    const [fitting, unfitting] = [
      { transaction_id: longest, card_id: longest, is_fraud: false },
      { transaction_id: long, card_id: long, is_fraud: false },
    ];
    const tooLong = { code: "value", message: "is longer than 256 bytes" };
    const refused = await label([fitting, unfitting]);
    expect([refused.statusCode, refused.json()]).toMatchObject([
      400,
      {
        errors: [
          { ...tooLong, field: "[1].transaction_id" },
          { ...tooLong, field: "[1].card_id" },
        ],
      },
    ]);
    expect((await label({ ...fitting, card_id: long })).json()).toMatchObject({
      status: 400,
      errors: [{ ...tooLong, field: "card_id" }],
    });
    expect((await system.read(system.topics.labels)).map(({ key }) => key?.toString())).toEqual(["card-of-p-1"]);
    expect((await label(fitting)).statusCode).toBe(202);
    await eventually(
      "the prediction tells its label",
      async () =>
        (await api.inject("analyst", { url: "/api/v1/predictions/p-1" })).json<{
          label?: { is_fraud: boolean } | null;
        }>().label?.is_fraud === true,
    );

    // What came from a partition that was added to the topic is sent to the partition of its card.
    const admin = api.context.kafka.admin();
    await admin.connect();
    onTestFinished(() => admin.disconnect());
    const { name, partitions } = system.topics.transactions;
    await admin.createPartitions({ topicPartitions: [{ topic: name, count: partitions + 1 }] });
    const lost = { key: Buffer.from("c8"), value: wireValue(transaction(8), UNKNOWN) };
    await system.publishTo(partitions, [lost]);
    const added = await eventually(
      "the record in the added partition is a dead letter",
      async () => (await system.deadLetters()).find(({ headers }) => headers["partition"] === String(partitions)),
      30_000,
    );
    expect(await replay(api, { dead_letters: [{ partition: added.partition, offset: added.offset }] })).toMatchObject({
      replayed: [{ partition: added.partition, offset: added.offset }],
      skipped: [],
    });
    const resent = (await system.read(system.topics.transactions)).filter(
      ({ headers }) =>
        headers["fraudstream-redrive-of"] === `${system.topics.deadLetters.name}/${added.partition}/${added.offset}`,
    );
    expect(resent.map(({ partition, key, value }) => [partition, key?.toString(), value])).toEqual([
      [partitionOf(lost.key, partitions), "c8", lost.value],
    ]);
  },
);
