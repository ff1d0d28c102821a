import { numbers } from "./csv-files.js";
import { iso, payments, type Payment } from "./payments-csv.js";

/** A small file after the header and the habits of a public data set. */
export interface PublicShape {
  name: string;
  text: string;
  cards: number | null;
  merchants: number | null;
  /** Columns that must be attributes, and some that must not. */
  attributes: string[];
  leftOut: string[];
}

const START = Date.UTC(2024, 2, 1);
const noise = numbers(21);
/** Dear ones are frauds a little more often, as in life. */
const ROWS = payments(1_500, 11).map((payment) => ({
  ...payment,
  amount: Math.round((5 + noise() * (payment.fraud ? 140 : 100)) * 100) / 100,
}));
const pick = (count: number): number => Math.floor(noise() * count);
const number = (text: string): number => Number(text.slice(1));

function shape(header: string, cells: (payment: Payment) => (string | number)[]): string {
  return `${[header, ...ROWS.map((payment) => cells(payment).join(","))].join("\n")}\n`;
}

const hours = (time: number): number => 1 + Math.floor((time - START) / 3_600_000);
const days = (time: number): number => Math.floor((time - START) / 86_400_000);

export const PUBLIC_SHAPES: PublicShape[] = [
  {
    name: "evalml's fraud_transactions",
    text: shape(
      "id,card_id,store_id,datetime,amount,currency,customer_present,expiration_date,provider,lat,lng,region,country," +
        "fraud",
      ({ row, card, merchant, time, amount, fraud }) => [
        row,
        30_000 + number(card),
        8_516 + number(merchant),
        iso(time),
        Math.round(amount * 100),
        ["CUC", "MRO", "LTL", "SPL", "GGP", "TVD", "IMP", "EUR", "NIS", "ZWD", "XDR"][row % 11],
        row % 3 === 0 ? "True" : "False",
        `0${1 + (row % 9)}/2${row % 9}`,
        ["VISA 16 digit", "JCB 15 digit", "Discover", "Maestro"][row % 4],
        (40 + noise()).toFixed(5),
        (-70 - noise()).toFixed(5),
        `Town ${pick(40)}`,
        ["US", "DE", "FR", "IN"][row % 4],
        fraud ? "True" : "False",
      ],
    ),
    cards: 60,
    merchants: 25,
    attributes: ["customer_present", "provider", "lat", "lng", "region", "country"],
    leftOut: ["id"],
  },
  {
    name: "PaySim",
    text: shape(
      "step,type,amount,nameOrig,oldbalanceOrg,newbalanceOrig,nameDest,oldbalanceDest,newbalanceDest,isFraud," +
        "isFlaggedFraud",
      ({ time, amount, card, merchant, fraud, row }) => [
        hours(time),
        ["PAYMENT", "TRANSFER", "CASH_OUT", "DEBIT", "CASH_IN"][row % 5],
        amount,
        `C12${card.slice(1)}`,
        (amount * (1 + noise())).toFixed(2),
        (amount * noise()).toFixed(2),
        `M19${merchant.slice(1)}`,
        "0.0",
        (amount * noise()).toFixed(2),
        Number(fraud),
        0,
      ],
    ),
    cards: 60,
    merchants: 25,
    attributes: ["type", "oldbalanceOrg", "newbalanceOrig", "newbalanceDest"],
    leftOut: ["isFlaggedFraud"],
  },
  {
    name: "Sparkov",
    text: shape(
      ",trans_date_trans_time,cc_num,merchant,category,amt,first,last,gender,street,city,state,zip,lat,long,city_pop," +
        "job,dob,trans_num,unix_time,merch_lat,merch_long,is_fraud",
      ({ row, time, card, merchant, amount, fraud }) => [
        row,
        iso(time),
        4_000_000_000_000_000 + 1_237 * number(card),
        `"fraud_Kub, Mann and ${merchant}"`,
        ["grocery_pos", "misc_net", "gas_transport"][row % 3],
        amount,
        `First${number(card) % 30}`,
        `Last${number(card) % 40}`,
        number(card) % 2 === 0 ? "F" : "M",
        `${number(card)} Elm St`,
        `City ${number(card)}`,
        `S${number(card) % 51}`,
        10_001 + 37 * number(card),
        (30 + number(card) / 7).toFixed(4),
        (-80 - number(card) / 9).toFixed(4),
        1_000 + 17 * number(card),
        `Job ${number(card) % 45}`,
        `19${50 + (number(card) % 50)}-03-09`,
        `tx${row}abc`,
        Math.floor(time / 1000) - 220_924_800,
        (30 + noise()).toFixed(6),
        (-80 - noise()).toFixed(6),
        Number(fraud),
      ],
    ),
    cards: 60,
    merchants: 25,
    attributes: ["category", "gender", "state", "job", "merch_lat", "merch_long"],
    leftOut: ["", "street", "dob", "unix_time", "zip"],
  },
  {
    name: "IEEE-CIS",
    text: shape(
      "TransactionID,isFraud,TransactionDT,TransactionAmt,ProductCD,card1,card2,card3,card4,card5,card6,addr1,addr2," +
        "dist1,P_emaildomain,R_emaildomain,C1,D1,M4,V1,V2,id_30",
      ({ row, time, amount, card, fraud }) => [
        2_987_000 + row,
        Number(fraud),
        86_400 + Math.floor((time - START) / 1000),
        amount,
        "WHCRS"[row % 5],
        1_000 + 213 * number(card),
        number(card) % 7 === 0 ? "" : 100 + (number(card) % 50),
        150,
        ["visa", "mastercard", "discover"][number(card) % 3],
        226,
        ["debit", "credit"][number(card) % 2],
        number(card) % 9 === 0 ? "" : 200 + (number(card) % 90),
        87,
        row % 3 === 0 ? "" : pick(300),
        ["gmail.com", "yahoo.com", "", ...Array.from({ length: 57 }, (_, i) => `host${i}.com`)][pick(60)],
        row % 2 === 0 ? "" : `host${pick(50)}.com`,
        pick(20),
        pick(600),
        ["M0", "M1", "M2", ""][row % 4],
        row % 5 === 0 ? "" : "1.0",
        pick(3),
        row % 4 === 0 ? "" : `iOS ${pick(70)}`,
      ],
    ),
    cards: 60,
    merchants: null,
    attributes: [
      "ProductCD",
      "card4",
      "card6",
      "P_emaildomain",
      "R_emaildomain",
      "dist1",
      "C1",
      "D1",
      "M4",
      "V1",
      "id_30",
    ],
    leftOut: [],
  },
  {
    name: "TabFormer",
    text: shape(
      "User,Card,Year,Month,Day,Time,Amount,Use Chip,Merchant Name,Merchant City,Merchant State,Zip,MCC,Errors?," +
        "Is Fraud?",
      ({ row, time, card, merchant, amount, fraud }) => [
        number(card) % 20,
        Math.floor(number(card) / 20),
        2024,
        new Date(time).getUTCMonth() + 1,
        new Date(time).getUTCDate(),
        iso(time).slice(11, 16),
        `$${amount}`,
        ["Swipe Transaction", "Chip Transaction", "Online Transaction"][row % 3],
        `-35272132461278${number(merchant) + 10}953`,
        `Town ${pick(40)}`,
        row % 9 === 0 ? "" : `S${pick(51)}`,
        row % 9 === 0 ? "" : `${91_750 + pick(300)}.0`,
        5_300 + pick(80),
        row % 50 === 0 ? '"Bad PIN,Insufficient Balance"' : "",
        fraud ? "Yes" : "No",
      ],
    ),
    cards: 60,
    merchants: 25,
    attributes: ["Use Chip", "Merchant City", "Merchant State", "MCC", "Errors?"],
    leftOut: ["Zip"],
  },
  {
    name: "BankSim",
    text: shape(
      "step,customer,age,gender,zipcodeOri,merchant,zipMerchant,category,amount,fraud",
      ({ row, time, card, merchant, amount, fraud }) => [
        days(time),
        `'C109${card.slice(1)}'`,
        `'${number(card) % 7}'`,
        number(card) % 2 === 0 ? "'M'" : "'F'",
        "'28007'",
        `'M34${merchant.slice(1)}'`,
        "'28007'",
        row % 3 === 0 ? "'es_travel'" : "'es_transportation'",
        amount,
        Number(fraud),
      ],
    ),
    cards: 60,
    merchants: 25,
    attributes: ["age", "gender", "category"],
    leftOut: [],
  },
  {
    name: "Bank Account Fraud",
    text: shape(
      "fraud_bool,income,name_email_similarity,prev_address_months_count,customer_age,days_since_request," +
        "intended_balcon_amount,payment_type,zip_count_4w,velocity_6h,employment_status,credit_risk_score," +
        "email_is_free,proposed_credit_limit,source,session_length_in_minutes,device_os,device_fraud_count,month",
      ({ row, fraud, amount }) => [
        Number(fraud),
        (1 + pick(9)) / 10,
        noise().toFixed(6),
        pick(5) - 1,
        10 * (1 + pick(8)),
        (noise() / 30).toFixed(6),
        amount - 20,
        ["AA", "AB", "AC"][row % 3],
        pick(4_000),
        (noise() * 9_000).toFixed(3),
        ["CA", "CB", "CF"][row % 3],
        pick(380) - 100,
        row % 2,
        200 * (1 + pick(10)),
        row % 40 === 0 ? "TELEAPP" : "INTERNET",
        (noise() * 60).toFixed(4),
        ["windows", "linux", "other"][row % 3],
        0,
        Math.floor(row / 190),
      ],
    ),
    cards: null,
    merchants: null,
    attributes: ["income", "payment_type", "zip_count_4w", "credit_risk_score", "proposed_credit_limit", "device_os"],
    leftOut: ["device_fraud_count"],
  },
];
