/** What a column of a file can stand for in a transaction. */
export const ROLES = ["transaction_id", "event_time", "card_id", "merchant_id", "amount", "currency", "label"] as const;
export type Role = (typeof ROLES)[number];

/**
 * Names by role, the best first, as `plainName` makes them: the plain names, the Fraud Detection Handbook's, PaySim's
 * and ULB's (Kaggle `creditcard`), and those of two more public sets (IEEE-CIS, Sparkov). A column of such a name is no
 * attribute, even where another one has the role.
 */
export const NAMES: Record<Role, readonly string[]> = {
  transaction_id: ["transactionid", "txid", "transnum", "eventid", "txnid", "transid", "trxid"],
  event_time: [
    "eventtime",
    "txdatetime",
    "datetime",
    "timestamp",
    "eventtimestamp",
    "transactiontime",
    "transdatetranstime",
    "transactiondt",
    "time",
    "step",
    "unixtime",
  ],
  card_id: ["cardid", "customerid", "nameorig", "ccnum", "cardnumber", "entityid"],
  merchant_id: ["merchantid", "terminalid", "namedest", "merchant", "storeid", "merchantname"],
  amount: ["amount", "txamount", "transactionamount", "transactionamt", "amt"],
  currency: ["currency", "currencycode"],
  label: ["label", "isfraud", "txfraud", "class", "fraud", "eventlabel", "fraudbool", "fraudlabel", "isfraudulent"],
};

/** Names that tell a role where no column has one of the names above; otherwise they are attributes like any other. */
export const FURTHER_NAMES: Record<Role, readonly string[]> = {
  transaction_id: ["paymentid", "orderid", "trxnid", "transactionnumber", "transactionno", "txnnumber", "uuid", "id"],
  event_time: [
    "transactiondatetime",
    "transactiontimestamp",
    "transactiondate",
    "transdatetime",
    "transdate",
    "txndatetime",
    "txndate",
    "txntime",
    "txdate",
    "purchasetime",
    "purchasedate",
    "createdat",
    "occurredat",
    "eventdate",
    "date",
    "ts",
  ],
  card_id: [
    "card",
    "cardno",
    "cardhash",
    "pan",
    "creditcardnumber",
    "accountid",
    "accountnumber",
    "account",
    "customer",
    "customernumber",
    "userid",
    "user",
    "clientid",
    "client",
    "cardholderid",
    "payerid",
  ],
  merchant_id: [
    "shopid",
    "store",
    "shop",
    "merchantcode",
    "merchantno",
    "merchantnumber",
    "vendorid",
    "vendor",
    "sellerid",
    "seller",
    "retailerid",
    "retailer",
    "payeeid",
    "payee",
    "outletid",
    "posid",
    "terminal",
    "beneficiaryid",
  ],
  amount: [
    "amountusd",
    "amounteur",
    "amountgbp",
    "txnamount",
    "txnamt",
    "paymentamount",
    "orderamount",
    "orderprice",
    "purchaseamount",
    "purchasevalue",
    "transactionvalue",
    "totalamount",
    "ordertotal",
    "amountpaid",
    "betrag",
    "montant",
    "importe",
    "price",
    "value",
    "total",
  ],
  currency: ["ccy", "transactioncurrency", "txcurrency", "currencyiso"],
  label: [
    "fraudflag",
    "fraudulent",
    "fraudindicator",
    "fraudstatus",
    "isfraudtransaction",
    "fraudreported",
    "ischargeback",
    "chargeback",
    "target",
    "outcome",
  ],
};

/**
 * Names that tell of the label, such as PaySim's isFlaggedFraud and the Handbook's TX_FRAUD_SCENARIO; known only after
 * the fact.
 */
const LEAK = /fraud|chargeback|^label/;
/**
 * The Handbook's TX_TIME_SECONDS and TX_TIME_DAYS say again what TX_DATETIME says, and only grow: no model may look at
 * them.
 */
const DERIVED_TIME = /^txtime(seconds|days)$/;
/** A row number, as pandas and spreadsheets write it. */
const ROW_NUMBER = /^(unnamed\d+|rownumber|rownum|rowid|row|index|)$/;

/** A name without regard to case, spaces and marks. */
export function plainName(name: string): string {
  return name.toLowerCase().replace(/[^\p{L}\p{N}]/gu, "");
}

/** Why a column of this name is no attribute unless the user keeps it; null: its name is no reason. */
export function whyNotAttribute(name: string): string | null {
  if (ROW_NUMBER.test(name)) return "a row number";
  if (LEAK.test(name) || NAMES.label.includes(name)) return "it would tell the label";
  if (DERIVED_TIME.test(name)) return "it repeats the time";
  const role = ROLES.find((candidate) => NAMES[candidate].includes(name));
  return role === undefined ? null : `the ${role} is taken from elsewhere`;
}
