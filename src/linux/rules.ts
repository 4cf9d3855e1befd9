import { formatAddress, type Prefix, parsePrefix } from '../protocol/address.ts';
import { AF_INET, AF_INET6 } from './addresses.ts';
import { ERRNO } from './errno.ts';
import { type Netlink, withNetlink } from './netlink.ts';
import {
  attribute,
  attributeText,
  attributeU32,
  decodeAttributes,
  type NetlinkMessage,
  NLM_F_CREATE,
  NLM_F_EXCL,
  readText,
  readU32,
  viewOf,
} from './netlink-message.ts';

const RTM_NEWRULE = 32;
const RTM_DELRULE = 33;
const RTM_GETRULE = 34;

/** `struct fib_rule_hdr` (12): family 0 · to length 1 · from length 2 · tos 3 · table 4 · action 7 · flags 8 */
const RULE_HEADER_BYTES = 12;
const FR_ACT_TO_TBL = 1;
const FIB_RULE_INVERT = 2;

const FRA_DST = 1;
const FRA_SRC = 2;
const FRA_IIFNAME = 3;
const FRA_PRIORITY = 6;
const FRA_FWMARK = 10;
const FRA_SUPPRESS_PREFIXLEN = 14;
const FRA_TABLE = 15;
const FRA_FWMASK = 16;
const FRA_OIFNAME = 17;

/** Packets that match everything given are looked up in `table`. */
export interface Rule {
  readonly family: 4 | 6;
  /** Lower is asked first; unique per use, so that a rule can be found again. */
  readonly priority: number;
  readonly table: number;
  /** Source prefix. */
  readonly from?: string;
  /** Destination prefix. */
  readonly to?: string;
  readonly mark?: number;
  /** Bits of the mark that count (default all). */
  readonly mask?: number;
  /** Device it came in through; `lo` for packets that this machine starts. */
  readonly iif?: string;
  readonly oif?: string;
  /** Matches what does *not* match the above (default false). */
  readonly not?: boolean;
  /** Ignore an answer from a route with a prefix this short or shorter: 0 passes over default routes. */
  readonly suppressPrefixLength?: number;
}

/** Adds the rule unless it is there. */
export function ensureRule(rule: Rule): void {
  withNetlink((netlink) =>
    netlink.change(
      {
        type: RTM_NEWRULE,
        flags: NLM_F_CREATE | NLM_F_EXCL,
        fixed: ruleHeader(rule),
        attributes: ruleAttributes(rule),
      },
      describeRule(rule),
      [ERRNO.EEXIST],
    ),
  );
}

/** Removes the rule; one that is not there is fine. */
export function removeRule(rule: Rule): void {
  withNetlink((netlink) =>
    netlink.change(
      { type: RTM_DELRULE, fixed: ruleHeader(rule), attributes: ruleAttributes(rule) },
      describeRule(rule),
      [ERRNO.ENOENT, ERRNO.ESRCH],
    ),
  );
}

/** The rules of one family, or of both. */
export function listRules(family?: 4 | 6, netlink?: Netlink): Rule[] {
  if (netlink === undefined) return withNetlink((own) => listRules(family, own));
  const families = family === undefined ? ([4, 6] as const) : [family];
  return families
    .flatMap((one) => {
      const fixed = new Uint8Array(RULE_HEADER_BYTES);
      fixed[0] = one === 4 ? AF_INET : AF_INET6;
      return netlink.dump({ type: RTM_GETRULE, fixed }, 'rules');
    })
    .filter((message) => message.type === RTM_NEWRULE && message.body.length >= RULE_HEADER_BYTES)
    .map(ruleOf);
}

function describeRule(rule: Rule): string {
  return `IPv${rule.family} rule ${rule.priority} to table ${rule.table}`;
}

function ruleHeader(rule: Rule): Uint8Array {
  const fixed = new Uint8Array(RULE_HEADER_BYTES);
  fixed[0] = rule.family === 4 ? AF_INET : AF_INET6;
  fixed[1] = rule.to === undefined ? 0 : parsePrefix(rule.to, 'to').bits;
  fixed[2] = rule.from === undefined ? 0 : parsePrefix(rule.from, 'from').bits;
  fixed[7] = FR_ACT_TO_TBL;
  viewOf(fixed).setUint32(8, rule.not ? FIB_RULE_INVERT : 0, true);
  return fixed;
}

function ruleAttributes(rule: Rule): Uint8Array[] {
  const attributes = [attributeU32(FRA_PRIORITY, rule.priority), attributeU32(FRA_TABLE, rule.table)];
  const prefix = (type: number, { bytes, bits }: Prefix) => {
    if (bits > 0) attributes.push(attribute(type, bytes));
  };
  if (rule.from !== undefined) prefix(FRA_SRC, parsePrefix(rule.from, 'from'));
  if (rule.to !== undefined) prefix(FRA_DST, parsePrefix(rule.to, 'to'));
  if (rule.mark !== undefined) {
    attributes.push(attributeU32(FRA_FWMARK, rule.mark), attributeU32(FRA_FWMASK, rule.mask ?? 0xffffffff));
  }
  if (rule.iif !== undefined) attributes.push(attributeText(FRA_IIFNAME, rule.iif));
  if (rule.oif !== undefined) attributes.push(attributeText(FRA_OIFNAME, rule.oif));
  if (rule.suppressPrefixLength !== undefined) {
    attributes.push(attributeU32(FRA_SUPPRESS_PREFIXLEN, rule.suppressPrefixLength));
  }
  return attributes;
}

function textOf(octets: Uint8Array | undefined): string | undefined {
  return octets?.length === 4 || octets?.length === 16 ? formatAddress(octets) : undefined;
}

function ruleOf(message: NetlinkMessage): Rule {
  const view = viewOf(message.body);
  const attributes = decodeAttributes(message.body, RULE_HEADER_BYTES);
  const from = textOf(attributes.get(FRA_SRC));
  const to = textOf(attributes.get(FRA_DST));
  const mark = readU32(attributes, FRA_FWMARK);
  const mask = readU32(attributes, FRA_FWMASK);
  const iif = readText(attributes, FRA_IIFNAME);
  const oif = readText(attributes, FRA_OIFNAME);
  const suppressed = readU32(attributes, FRA_SUPPRESS_PREFIXLEN);
  return {
    family: view.getUint8(0) === AF_INET ? 4 : 6,
    priority: readU32(attributes, FRA_PRIORITY) ?? 0,
    table: readU32(attributes, FRA_TABLE) ?? view.getUint8(4),
    ...(from === undefined ? {} : { from: `${from}/${view.getUint8(2)}` }),
    ...(to === undefined ? {} : { to: `${to}/${view.getUint8(1)}` }),
    ...(mark === undefined ? {} : { mark }),
    ...(mask === undefined || mark === undefined ? {} : { mask }),
    ...(iif === undefined ? {} : { iif }),
    ...(oif === undefined ? {} : { oif }),
    ...((view.getUint32(8, true) & FIB_RULE_INVERT) === 0 ? {} : { not: true }),
    // The kernel writes "none" as −1.
    ...(suppressed === undefined || suppressed === 0xffffffff ? {} : { suppressPrefixLength: suppressed }),
  };
}
