import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { HttpProblem } from "../../../../api/plugins/errors.js";
import { Admission, costOf } from "../../../../api/predictions/admission.js";

const SECOND = 1_000;
/** The Retry-After that a request is refused with; null: it was taken. */
function refusal(admission: Admission, { cost = 1, waits = true } = {}): string | null {
  try {
    admission.enter(cost, waits);
    return null;
  } catch (error) {
    if (!(error instanceof HttpProblem)) throw error;
    expect(error).toMatchObject({ status: 503, code: "overloaded" });
    return error.headers["retry-after"];
  }
}

beforeEach(() => void vi.useFakeTimers({ toFake: ["performance"] }));
afterEach(() => void vi.useRealTimers());

test("admits what fits, and what is larger than the limit if it is alone; leaving twice counts once", () => {
  const admission = new Admission({ most: 10 });
  const leave = admission.enter(25, true);
  expect(refusal(admission)).toBe("1");
  leave();
  leave();
  expect(admission.underWay).toBe(0);
  for (let i = 0; i < 10; i++) expect(refusal(admission)).toBeNull();
  expect(refusal(admission, { waits: false })).toBe("1");
});

test("a record counts one, plus one for each KB", () => {
  expect(costOf([{ value: Buffer.alloc(100) }, { value: Buffer.alloc(5_000) }, { value: null }])).toBe(7);
});

describe("once an outcome is ten seconds late", () => {
  const behind = (): Admission => {
    const admission = new Admission({ most: 1_000 });
    expect(refusal(admission)).toBeNull();
    admission.late("first", performance.now());
    admission.late("second", performance.now() + 3 * SECOND);
    vi.advanceTimersByTime(9 * SECOND);
    expect(refusal(admission)).toBeNull();
    expect(refusal(admission)).toBeNull();
    vi.advanceTimersByTime(2 * SECOND);
    return admission;
  };

  test("one request a second goes through, the others are told to retry; requests that don't wait are served", () => {
    const admission = behind();
    for (let second = 0; second < 5; second++) {
      expect(refusal(admission)).toBeNull();
      expect(refusal(admission)).toBe("5");
      expect(refusal(admission, { waits: false })).toBeNull();
      vi.advanceTimersByTime(SECOND);
    }
  });

  test("the limit ends when the late outcomes come, and when another comes in time", () => {
    const late = behind();
    refusal(late);
    expect(refusal(late)).toBe("5");
    late.came("first");
    // The second was asked for three seconds later: eight ago.
    expect(refusal(late)).toBeNull();
    vi.advanceTimersByTime(3 * SECOND);
    refusal(late);
    expect(refusal(late)).toBe("5");
    late.inTime();
    expect(refusal(late)).toBeNull();
  });

  test("an outcome that never comes is eventually forgotten", () => {
    const admission = behind();
    vi.advanceTimersByTime(11 * 60 * SECOND);
    for (let i = 0; i < 3; i++) expect(refusal(admission)).toBeNull();
  });
});
