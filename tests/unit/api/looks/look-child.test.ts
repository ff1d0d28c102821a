import { expect, test } from "vitest";
import { lookInProcess } from "../../../../api/looks/look-child.js";
import { staticServer } from "../../../support/static-server.js";

test("if the caller leaves while the folder is created, nothing is fetched", async () => {
  const { origin, asked } = await staticServer({ "/x.csv": "amount,label\n1,0\n2,1\n" });
  const gone = new AbortController();
  const looked = lookInProcess(
    { dataset: `${origin}/x.csv` },
    {
      allowPrivate: ["127.0.0.1/32"],
      maxBytes: 1_000_000,
      maxUnpackedBytes: 1_000_000,
      maxRows: 1_000,
      stallMs: 5_000,
      silenceMs: 10_000,
      deadlineMs: 10_000,
    },
    gone.signal,
  );
  gone.abort();
  await expect(looked).rejects.toMatchObject({ code: "busy" });
  expect(asked).toEqual([]);
});
