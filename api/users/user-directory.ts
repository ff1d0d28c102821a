import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { Turns } from "../../infra/async/turns.js";
import type { BatchProducer } from "../../infra/kafka/batch-producer.js";
import type { KafkaCluster } from "../../infra/kafka/cluster.js";
import { KeptLog } from "../../infra/kafka/kept-log.js";
import { PartitionReader } from "../../infra/kafka/partition-reader.js";
import type { Schemas } from "../../infra/kafka/schemas.js";
import type { Logger } from "../../infra/logging.js";
import { waitOut } from "../../infra/async/retry.js";
import { FraudstreamError, UsageError, messageOf } from "../../schemas/errors.js";
import type { User, UserRole } from "../../schemas/generated.js";
import { UserFold } from "./user-fold.js";

export interface UserDirectoryOptions {
  cluster: KafkaCluster;
  topic: string;
  schemas: Schemas;
  log: Logger;
  /** No token is accepted if the users were last read longer ago than this, milliseconds. @default two minutes */
  mostStaleMs?: number;
}

export interface NewUser {
  username: string;
  email: string;
  role: UserRole;
  passwordHash: string | null;
  /** A user id or system:start; the user's own id when it isn't given. */ by?: string;
}

/** What may be changed of a user. A new password hash makes the older tokens invalid. */
export interface UserChange {
  enabled?: boolean;
  role?: UserRole;
  passwordHash?: string;
}

const PARTITION = 0;
const REPLACED =
  "The users that are known stay known until this process is started again, but no token is taken for long " +
  "on knowledge that can't be renewed, and nobody can be changed: restore the topic, or restart the API, " +
  "which makes the first admin anew";
/** Authors look at the outcome of a record right after they have written it. */
const KEPT_OUTCOMES = 1_000;
/** Another copy may write over the same record at the same time, which makes ours the refused one. */
const REPAIR_TURNS = 10;
const MOST_STALE_MS = 120_000;
/** How long sign-in waits for the newest records before it goes on with those that it has. */
const FRESHNESS_MS = 1_000;

/** fraud.users and its fold, kept in memory by each copy of the API. Needs nothing but Kafka. */
export class UserDirectory {
  readonly #fold = new UserFold();
  readonly #topic: string;
  readonly #schemas: Schemas;
  readonly #log: Logger;
  readonly #kept: KeptLog;
  /** Of its own, so that asking for the end doesn't wait for the fetch under way. */
  readonly #ends: PartitionReader;
  readonly #outcomes = new Map<number, boolean>();
  #next = 0;
  readonly #asking = new Turns();
  #following: Promise<void> | null = null;
  #readAt = Date.now();
  readonly #mostStaleMs: number;
  readonly #closing = new AbortController();

  constructor({ cluster, topic, schemas, log, mostStaleMs = MOST_STALE_MS }: UserDirectoryOptions) {
    this.#mostStaleMs = mostStaleMs;
    this.#topic = topic;
    this.#schemas = schemas;
    this.#log = log;
    this.#kept = new KeptLog(cluster, new PartitionReader(cluster, topic, PARTITION, { maxWaitMs: 200 }), REPLACED);
    this.#ends = new PartitionReader(cluster, topic, PARTITION);
  }

  /** Whether the users were read too long ago to accept a token: a user may have been disabled since. */
  get stale(): boolean {
    return this.#following !== null && Date.now() - this.#readAt > this.#mostStaleMs;
  }

  /**
   * Why users can't be changed: the topic no longer holds what was read of it (recreated, or its end is lost). Null: it
   * does.
   */
  get replaced(): string | null {
    return this.#kept.replaced;
  }

  /** As of now, without looking further. */
  byId(id: string): User | undefined {
    return this.#fold.byId(id);
  }

  /** As of now, without looking further, whatever the name's case. */
  named(username: string): User | undefined {
    return this.#fold.byName(username);
  }

  /** As of now, oldest first. */
  all(): User[] {
    return this.#fold.all();
  }

  /**
   * A user by id or by name, whatever its case; one that isn't known is looked for up to the present end of the topic.
   */
  async find(by: { id: string } | { username: string }): Promise<User | undefined> {
    const look = (): User | undefined => ("id" in by ? this.#fold.byId(by.id) : this.#fold.byName(by.username));
    const known = look();
    if (known !== undefined) return known;
    await this.readToEnd();
    return look();
  }

  /** A user by name as of the present end, or as of what this copy has when Kafka doesn't answer soon: for sign-in. */
  async current(username: string): Promise<User | undefined> {
    const patience = new AbortController();
    await Promise.race([
      this.readToEnd().catch((error: unknown) =>
        this.#log.warn(`the newest users could not be read: ${messageOf(error)}`),
      ),
      sleep(FRESHNESS_MS, undefined, { signal: patience.signal }).catch(() => {}),
    ]);
    patience.abort();
    return this.#fold.byName(username);
  }

  /** Folds everything that the topic holds at the time of the call. */
  async readToEnd(): Promise<void> {
    // One question at a time: requests on a connection are answered in turn anyway.
    const end = await this.#asking.take(() => this.#ends.endOffset());
    if (this.#next === end) return;
    await this.#kept.inTurn(async () => {
      while (this.#next < end) await this.#foldNext();
      // More may have been folded since the end was asked for; or the log has lost its end, and then reading on says
      // so.
      if (this.#next > end && this.#next > (await this.#ends.endOffset())) await this.#foldNext();
    });
  }

  /**
   * Folds everything that the topic holds: what a copy has to know before it begins.
   *
   * @throws UsageError `users_inconsistent` where that would bring a user back as somebody has not left him
   */
  async open(): Promise<void> {
    await this.readToEnd();
    const [refused] = this.#fold.unexplained.values();
    if (refused === undefined) return;
    throw new UsageError(
      "users_inconsistent",
      `${this.#topic}: the record at offset ${refused.offset} (user ${refused.id}) can't be applied: users ` +
        "of two clusters are mixed in " +
        ("the topic, or records were put into it in another order. Starting would remove that user or bring " +
          "back what somebody has changed. ") +
        ("Delete the topic and copy it whole from its source before any API starts, or delete it and make the " +
          "users again"),
    );
  }

  /** Keeps folding what comes, however long Kafka is away meanwhile. Ends with `close`. */
  follow(onFailure: (error: unknown) => void): void {
    this.#following ??= (async () => {
      this.#readAt = Date.now();
      while (!this.#closing.signal.aborted) {
        try {
          await this.#kept.inTurn(() => this.#foldNext());
          this.#readAt = Date.now();
        } catch (error) {
          await waitOut(error, this.#log, this.#closing.signal);
        }
      }
    })().catch((error: unknown) => {
      if (!this.#closing.signal.aborted) onFailure(error);
    });
  }

  /**
   * Makes a user. When two copies do so at once with one name, the record that Kafka stored first wins.
   *
   * @throws FraudstreamError `username_taken`
   */
  async create(producer: BatchProducer, { username, email, role, passwordHash, by }: NewUser): Promise<User> {
    const taken = (): FraudstreamError => new FraudstreamError("username_taken", `the name ${username} is taken`);
    if ((await this.find({ username })) !== undefined) throw taken();
    const id = randomUUID();
    const now = Date.now();
    const user: User = {
      id,
      username,
      email,
      role,
      enabled: true,
      password_hash: passwordHash,
      token_version: 1,
      created_at: now,
      created_by: by ?? id,
      changed_at: now,
      changed_by: by ?? id,
      claim: -1,
      base: -1,
    };
    if (await this.#publish(producer, id, user)) return this.byId(id) ?? user;
    await this.repair(producer);
    throw taken();
  }

  /**
   * Changes a user.
   *
   * @throws FraudstreamError `unknown_user`, `last_admin`, or `conflict` when the user was changed in the meantime
   */
  async change(producer: BatchProducer, id: string, change: UserChange, by: string): Promise<User> {
    const { enabled, role, passwordHash } = change;
    await this.readToEnd();
    const user = this.#known(id);
    const next: User = {
      ...user,
      enabled: enabled ?? user.enabled,
      role: role ?? user.role,
      ...(passwordHash === undefined ? {} : { password_hash: passwordHash, token_version: user.token_version + 1 }),
      changed_at: Date.now(),
      changed_by: by,
      base: this.#fold.baseOf(id),
    };
    if (!next.enabled || next.role !== "admin") this.#keepAnAdmin(id);
    if (await this.#publish(producer, id, next)) return next;
    await this.repair(producer);
    throw new FraudstreamError("conflict", "the user was changed in the meantime; look at it again and repeat");
  }

  /** Removes a user, whose name is free then. @throws FraudstreamError `unknown_user`, `last_admin` */
  async remove(producer: BatchProducer, id: string): Promise<void> {
    await this.readToEnd();
    this.#known(id);
    this.#keepAnAdmin(id);
    await this.#publish(producer, id, null);
  }

  /**
   * Writes what holds over records that were refused, so that compaction can't keep those instead. To be called at the
   * start, too.
   */
  async repair(producer: BatchProducer): Promise<void> {
    for (let turn = 0; turn < REPAIR_TURNS && this.#fold.strays.size > 0; turn++) {
      for (const id of [...this.#fold.strays]) {
        const user = this.byId(id);
        await this.#publish(producer, id, user === undefined ? null : { ...user, base: this.#fold.baseOf(id) });
      }
    }
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#kept.close();
    await this.#ends.close();
    await this.#following;
  }

  #known(id: string): User {
    const user = this.byId(id);
    if (user === undefined) throw new FraudstreamError("unknown_user", "no user has this id");
    return user;
  }

  #keepAnAdmin(id: string): void {
    const others = this.all().some((user) => user.id !== id && user.enabled && user.role === "admin");
    if (this.#known(id).role === "admin" && !others)
      throw new FraudstreamError("last_admin", "this is the last admin who is enabled: make another one first");
  }

  /** @returns whether the fold accepted the record */
  async #publish(producer: BatchProducer, id: string, user: User | null): Promise<boolean> {
    const offset = await producer.publishTo(this.#topic, PARTITION, [
      { key: Buffer.from(id), value: user === null ? null : this.#schemas.encode("users", user) },
    ]);
    if (offset >= 0) {
      while (this.#next <= offset) await this.readToEnd();
      return this.#outcomes.get(offset) === true;
    }
    // The broker had the record from an earlier try and doesn't say where.
    await this.readToEnd();
    const now = this.byId(id);
    return user === null
      ? now === undefined
      : now?.changed_at === user.changed_at && now.changed_by === user.changed_by;
  }

  async #foldNext(): Promise<void> {
    const records = await this.#kept.fetch(this.#next);
    for (let i = 0; i < records.count; i++) {
      // An unreadable batch is not a tombstone; the cluster has logged it.
      if (records.unread?.has(i)) continue;
      const part = (at: number, length: number): Buffer | null =>
        length < 0 ? null : records.bytes.subarray(at, at + length);
      const id = part(records.keyAt[i], records.keyLength[i])?.toString() ?? "";
      const value = part(records.valueAt[i], records.valueLength[i]);
      const offset = records.offset[i];
      try {
        const user = value === null ? null : ((await this.#schemas.decode("users", value)) as User);
        const accepted = this.#fold.apply(id, user, offset);
        this.#outcomes.set(offset, accepted);
        if (this.#outcomes.size > KEPT_OUTCOMES) this.#outcomes.delete(this.#outcomes.keys().next().value as number);
        if (!accepted)
          this.#log.warn(
            { offset, user: id },
            "a record of fraud.users was refused: its name was taken, or its user has changed",
          );
      } catch (error) {
        if (error instanceof FraudstreamError && error.retriable) throw error;
        this.#log.error({ offset }, `a record of fraud.users was left out: ${messageOf(error)}`);
      }
      // A record whose schema couldn't be had yet is read again, so the position moves with each record.
      this.#next = offset + 1;
    }
    this.#next = Math.max(this.#next, records.nextOffset);
  }
}
