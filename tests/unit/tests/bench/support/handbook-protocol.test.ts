import { describe, expect, it } from "vitest";
import { HANDBOOK_FEATURES, protocolWeeks } from "../../../../bench/support/handbook-protocol.js";

const at = (time: string): number => Date.parse(`${time}Z`);

describe("the weeks of the Handbook's protocol", () => {
  it("end with the last day of the data: a week to train on, one left out, one to test on", () => {
    const weeks = {
      training: { from: at("2018-07-25T00:00"), to: at("2018-08-01T00:00") },
      test: { from: at("2018-08-08T00:00"), to: at("2018-08-15T00:00") },
    };
    expect(protocolWeeks(at("2018-06-18T00:00:15"), at("2018-08-14T23:59:43"))).toEqual(weeks);
    expect(protocolWeeks(at("2018-07-25T00:01"), at("2018-08-14T00:00"))).toEqual(weeks);
    expect(protocolWeeks(at("2018-04-01T00:00"), at("2018-09-30T23:59:59.999")).test).toEqual({
      from: at("2018-09-24T00:00"),
      to: at("2018-10-01T00:00"),
    });
    expect(() => protocolWeeks(at("2018-07-26T00:00"), at("2018-08-14T12:00"))).toThrow("begins on 2018-07-26");
  });

  it("have the Handbook's fifteen features", () => {
    expect(new Set(HANDBOOK_FEATURES).size).toBe(15);
  });
});
