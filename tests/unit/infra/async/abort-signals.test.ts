import { setTimeout as sleep } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { describe, expect, it } from "vitest";
import { anySignal, withTimeLimit } from "../../../../infra/async/abort-signals.js";

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

describe("withTimeLimit", () => {
  it("aborts after its time, even after garbage collection and however deeply nested", async () => {
    const outer = anySignal(withTimeLimit(new AbortController().signal, 50), new AbortController().signal);
    collectGarbage();
    while (!outer.aborted) {
      await sleep(5);
      collectGarbage();
    }
    expect(outer.aborted).toBe(true);
  });

  it("aborts with the signal it was given, and has no limit without one", () => {
    const stop = new AbortController();
    const limited = withTimeLimit(stop.signal, 1e9);
    expect(withTimeLimit(stop.signal, null)).toBe(stop.signal);
    expect(limited.aborted).toBe(false);
    stop.abort();
    expect(limited.aborted).toBe(true);
  });
});

describe("anySignal", () => {
  it("aborts with the reason of the first source that aborts, even if that had already aborted", () => {
    const [a, b] = [new AbortController(), new AbortController()];
    const any = anySignal(a.signal, b.signal);
    b.abort("second");
    a.abort("first");
    expect(any.reason).toBe("second");
    expect(anySignal(new AbortController().signal, b.signal).reason).toBe("second");
  });
});
