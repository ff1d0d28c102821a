import { describe, expect, test } from "vitest";
import { UserFold } from "../../../../api/users/user-fold.js";
import type { User } from "../../../../schemas/generated.js";

const user = (id: string, username: string, change: Partial<User> = {}): User => ({
  id,
  username,
  email: "",
  role: "analyst",
  enabled: true,
  password_hash: null,
  token_version: 1,
  created_at: 0,
  created_by: id,
  changed_at: 0,
  changed_by: id,
  claim: -1,
  base: -1,
  ...change,
});

describe("names", () => {
  test("the first claim wins, whatever the letter case of the second", () => {
    const fold = new UserFold();
    expect(fold.apply("a", user("a", "Ann"), 0)).toBe(true);
    expect(fold.apply("b", user("b", "aNN"), 1)).toBe(false);
    expect(fold.byName("ANN")?.id).toBe("a");
    expect(fold.byId("b")).toBeUndefined();
    expect([...fold.strays]).toEqual(["b"]);
    expect(fold.apply("b", null, 2)).toBe(true);
    expect(fold.strays.size).toBe(0);
  });

  test("the name of a removed user is free again, and the id stays removed", () => {
    const fold = new UserFold();
    fold.apply("a", user("a", "ann"), 0);
    fold.apply("a", null, 1);
    expect(fold.apply("b", user("b", "ann"), 2)).toBe(true);
    expect(fold.apply("a", user("a", "other", { base: 0, claim: 0 }), 3)).toBe(false);
    expect(fold.byId("a")).toBeUndefined();
  });

  test("the tombstone of a refused claim leaves the winner alone", () => {
    const fold = new UserFold();
    fold.apply("a", user("a", "ann"), 0);
    fold.apply("b", user("b", "ann"), 1);
    fold.apply("b", null, 2);
    expect(fold.byName("ann")?.id).toBe("a");
  });
});

describe("changes", () => {
  test("are accepted only on top of the last accepted record", () => {
    const fold = new UserFold();
    fold.apply("a", user("a", "ann"), 0);
    expect(fold.apply("a", user("a", "ann", { base: 0, enabled: false }), 1)).toBe(true);
    // Whoever knew only offset 0 would switch the user on again.
    expect(fold.apply("a", user("a", "ann", { base: 0, role: "admin" }), 2)).toBe(false);
    expect(fold.byId("a")).toMatchObject({ enabled: false, role: "analyst", claim: 0 });
    expect(fold.baseOf("a")).toBe(1);
    expect([...fold.strays]).toEqual(["a"]);
    expect(fold.apply("a", user("a", "ann", { base: 1, enabled: false }), 3)).toBe(true);
    expect(fold.strays.size).toBe(0);
  });

  test("don't change the name, nor the claim", () => {
    const fold = new UserFold();
    fold.apply("a", user("a", "ann"), 5);
    fold.apply("a", user("a", "bob", { base: 5, claim: 0 }), 6);
    expect(fold.byId("a")).toMatchObject({ username: "ann", claim: 5 });
    expect(fold.byName("bob")).toBeUndefined();
  });
});

describe("a copy whose offsets have no gaps", () => {
  test("has the same users: a disabled one stays disabled, and changes continue from there", () => {
    const fold = new UserFold();
    fold.apply("a", user("a", "ann", { base: 30, claim: 12, created_at: 1 }), 0);
    expect(fold.apply("a", user("a", "ann", { base: 45, claim: 12, enabled: false, created_at: 1 }), 1)).toBe(true);
    expect(fold.apply("a", user("a", "ann", { base: 45, claim: 12, role: "admin", created_at: 1 }), 2)).toBe(false);
    expect(fold.byId("a")).toMatchObject({ enabled: false, role: "analyst" });
    expect(fold.apply("a", user("a", "ann", { base: fold.baseOf("a"), claim: 12, created_at: 1 }), 3)).toBe(true);
    expect([fold.byId("a")?.enabled, fold.unexplained.size]).toEqual([true, 0]);
  });

  test("leaves a name to the first user who had it, though claims are offsets of two logs", () => {
    const fold = new UserFold();
    // b's claim (made later, refused, its author died) stands at offset 1 here; a's record states the claim that it
    // had: 10.
    fold.apply("b", user("b", "ann", { created_at: 500 }), 1);
    expect(fold.apply("a", user("a", "ann", { base: 20, claim: 10, created_at: 400 }), 2)).toBe(true);
    expect(fold.byName("ann")?.id).toBe("a");
  });

  test("reports a refused record that no race explains until it is overwritten", () => {
    const fold = new UserFold();
    fold.apply("a", user("a", "ann", { base: 9, changed_at: 1_000 }), 0);
    fold.apply("a", user("a", "ann", { base: 3, enabled: false, changed_at: 1_000_000_000 }), 1);
    expect([...fold.unexplained.keys()]).toEqual(["a"]);
    fold.apply("a", user("a", "ann", { base: fold.baseOf("a"), enabled: false }), 2);
    expect(fold.unexplained.size).toBe(0);
  });
});

describe("a compacted log", () => {
  test("the older claim keeps the name though its newest record comes later", () => {
    const fold = new UserFold();
    // Of user a (claim 0) only the change at 7 is left; b's claim at 1 was refused and its author died.
    fold.apply("b", user("b", "ann"), 1);
    expect(fold.apply("a", user("a", "ann", { base: 3, claim: 0 }), 7)).toBe(true);
    expect(fold.byName("ann")?.id).toBe("a");
    expect(fold.byId("b")).toBeUndefined();
    expect([...fold.strays]).toEqual(["b"]);
  });

  test("has the same state as the whole log once stray records have been overwritten", () => {
    for (let seed = 1; seed <= 200; seed++) {
      const random = generator(seed);
      const log: { id: string; user: User | null }[] = [];
      const fold = new UserFold();
      const append = (id: string, value: User | null): void => {
        fold.apply(id, value, log.length);
        log.push({ id, user: value });
      };
      let made = 0;
      for (let step = 0; step < 40; step++) {
        const known = fold.all();
        const pick = known[Math.floor(random() * known.length)];
        const kind = random();
        if (pick === undefined || kind < 0.4) {
          const id = `u${made++}`;
          append(id, user(id, `name${Math.floor(random() * 4)}`));
        } else if (kind < 0.5) append(pick.id, null);
        else
          append(pick.id, {
            ...pick,
            enabled: random() < 0.5,
            changed_at: step,
            base: random() < 0.7 ? fold.baseOf(pick.id) : 0,
          });
        // The author of a refused record writes over it, sooner or later.
        if (random() < 0.5) settle();
      }
      settle();

      const newest = new Map(log.map(({ id }, offset) => [id, offset]));
      const compacted = new UserFold();
      log.forEach(({ id, user: value }, offset) => {
        // Tombstones are dropped, too, in the end.
        if (newest.get(id) === offset && value !== null) compacted.apply(id, value, offset);
      });
      expect(compacted.all(), `seed ${seed}`).toEqual(fold.all());

      function settle(): void {
        for (const id of [...fold.strays]) {
          const now = fold.byId(id);
          append(id, now === undefined ? null : { ...now, base: fold.baseOf(id) });
        }
      }
    }
  });
});

/** mulberry32 */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
