const LETTERS = 26;

/** Codes of ISO 4217 that Intl leaves out: funds, metals, units of account, tests. */
const FURTHER = "BOV CHE CHW CLF COU MXV USN UYI UYW VED XAD XAG XAU XBA XBB XBC XBD XPD XPT XTS XUA XXX";
/** Codes that ISO 4217 has withdrawn (its table A.3): payments of their time carry them. */
const WITHDRAWN =
  "ADP AFA ALK ANG AOK AON AOR ARA ARP ARY ATS AYM AZM BAD BEC BEF BEL BGJ BGK BGL BGN BOP BRB BRC BRE BRN BRR BUC " +
  "BUK BYB BYR CHC CNX CSD CSJ CSK CUC CYP DDM DEM ECS ECV EEK ESA ESB ESP FIM FRF GEK GHC GHP GNE GNS GQE GRD " +
  "GWE GWP HRD HRK IEP ILP ILR ISJ ITL LAJ LSM LTL LTT LUC LUF LUL LVL LVR MAF MGF MLF MRO MTL MTP MVQ MXP " +
  "MZE MZM NIC NLG PEH PEI PES PLZ PTE RHD ROK ROL RUR SDD SDP SIT SKK SLL SRG STD SUR TJR TMM " +
  "TPE TRL UAK UGS UGW USS UYN UYP VEB VEF VNC XEU XFO XFU XRE YDD YUD YUM YUN ZAL ZMK ZRN ZRZ ZWC ZWD ZWL " +
  "ZWN ZWR";
/** Local issues at par, and codes in wide use, that ISO 4217 does not list. */
const UNLISTED = "CKD CNH CNT FOK GGP IMP JEP KID NIS NTD PRB RMB SLS SPL TVD";

/** By the three letters' index: whether the code is, or was, a currency's. */
const KNOWN = knownCurrencies();

/** Whether three bytes are the code of a currency: of ISO 4217, also a withdrawn one, or one in use beside it. */
export function isCurrency(a: number, b: number, c: number): boolean {
  const index = currencyIndex(a, b, c);
  return index >= 0 && KNOWN[index] === 1;
}

/** The same of a text. */
export function isCurrencyCode(code: string): boolean {
  return code.length === 3 && isCurrency(code.charCodeAt(0), code.charCodeAt(1), code.charCodeAt(2));
}

function knownCurrencies(): Uint8Array {
  const known = new Uint8Array(LETTERS ** 3);
  const listed = [FURTHER, WITHDRAWN, UNLISTED].flatMap((codes) => codes.split(" "));
  for (const code of [...Intl.supportedValuesOf("currency"), ...listed])
    known[currencyIndex(code.charCodeAt(0), code.charCodeAt(1), code.charCodeAt(2))] = 1;
  return known;
}

/** -1: not three capital letters. */
function currencyIndex(a: number, b: number, c: number): number {
  const first = a - 65;
  const second = b - 65;
  const third = c - 65;
  if (first < 0 || first >= LETTERS || second < 0 || second >= LETTERS || third < 0 || third >= LETTERS) return -1;
  return (first * LETTERS + second) * LETTERS + third;
}
