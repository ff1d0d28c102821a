import { FraudstreamError } from "./errors.js";

/** A record that is no acceptable transaction. `code` becomes the dead letter's; the message never holds its data. */
export class TransactionRejected extends FraudstreamError {}
