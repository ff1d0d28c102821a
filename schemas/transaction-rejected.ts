import type { RecordCode } from "./error-codes.js";
import { FraudstreamError } from "./errors.js";

/** A record that is not a valid transaction. `code` becomes the dead letter's; the message never contains its data. */
export class TransactionRejected extends FraudstreamError {
  declare readonly code: RecordCode;

  constructor(code: RecordCode, message: string) {
    super(code, message);
  }
}
