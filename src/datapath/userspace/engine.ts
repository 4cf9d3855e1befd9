import { parseAddress, type SocketAddress } from '../../protocol/address.ts';
import { createTokenBucket } from '../../rebinding/token-bucket.ts';
import { peekIndex, peekType } from '../../tunnel/control.ts';
import {
  CONGESTION_UNHEARD,
  DEFAULT_MARKING,
  egressInner,
  setTrafficClass,
  type TunnelMarking,
  trafficClass,
} from '../../tunnel/dscp-ecn.ts';
import { DATA, REKEY_AFTER_PACKETS, TYPE } from '../../tunnel/wire.ts';
import { type DownlinkVerdict, decideDownlink } from '../decision/downlink.ts';
import { answerEcho } from '../decision/echo.ts';
import { packetHeaders, readPacket } from '../decision/packet.ts';
import { type AddressEntry, needsWholeDatagram } from '../decision/tables.ts';
import { decideUplink } from '../decision/uplink.ts';
import { ECHO, UPLINK_DROPS, type UplinkDrop } from '../decision/verdict.ts';
import type { EngineAnswer, EngineCommand, EngineEvent } from '../engine-api.ts';
import type { FastPath } from '../fast-path.ts';
import { freeze, setDeadline, thaw } from './anchor.ts';
import { Counters } from './counters.ts';
import { DueQueue } from './due-queue.ts';
import { Installation } from './installation.ts';
import { Reassembly } from './reassembly.ts';
import type { RelaySession, SessionHost, SessionPolicing } from './session.ts';

/** Held packets of all sessions together. */
const HOLD_BUDGET_OCTETS = 64 * 1024 * 1024;
/** The next DATA key is announced this long before the one in use is worn out: a second at 1 M packets/s. */
const REKEY_MARGIN_PACKETS = 2 ** 20;
/** How soon a session of an anchor past its deadline is looked at again: the deadline may be moved. */
const SUSPENDED_MS = 250;

/** A takeover makes thousands of sessions due at one moment. */
const SESSIONS_A_TICK = 128;

/** Echo requests to all shared addresses together that the relay answers. */
const ECHO_LIMIT = { perSecond: 200, burst: 50 } as const;

/** Where the engine's packets go. Buffers are lent until the call returns. */
export interface EngineIo {
  /** A tunnel datagram from the endpoint address `endpoint` to a device; `octet` holds the outer DSCP and ECN. */
  toDevice(
    endpoint: string,
    to: SocketAddress,
    buffer: Uint8Array,
    at: number,
    length: number,
    octet: number,
  ): void;
  /** An inner packet to the public side. */
  toNetwork(buffer: Uint8Array, at: number, length: number): void;
  event(event: EngineEvent): void;
}

/** The packet engine without sockets: every input comes by a call, every output goes to `io`. */
export interface Engine {
  /**
   * A tunnel datagram of `length` octets that came from `source` to the local address `destination`; `octet` held its outer
   * DSCP and ECN (default 0).
   */
  datagram(
    destination: string,
    source: SocketAddress,
    buffer: Uint8Array,
    at: number,
    length: number,
    nowMs: number,
    octet?: number,
  ): void;
  /** A packet from the public side; 16 octets in front of it are the engine's to write to. */
  packet(buffer: Uint8Array, at: number, length: number, nowMs: number): void;
  /** Carries out a command; throws a MooringError when it cannot. */
  command<C extends EngineCommand>(command: C, nowMs: number): EngineAnswer<C>;
  /** When to `tick` next; Infinity when there is nothing to wait for. */
  nextDueMs(): number;
  tick(nowMs: number): void;
  /** The next `datagram` comes by an interface that the engine in front does not see. */
  bypassed(destination: string, buffer: Uint8Array, at: number, length: number, nowMs: number): void;
  /**
   * True while the engine in front leaves packets to this one that it is to carry again: `settle` is due when everything
   * that the public side has queued for this engine was taken and sent.
   */
  readonly settling: boolean;
  settle(nowMs: number): void;
}

/**
 * `relayBoot` names this process's incarnation; `random` gives cryptographic octets; DATA keys change after
 * `rekeyAfterPackets` (default: 2^20 before the most that the tunnel allows).
 */
export function createEngine(options: {
  readonly relayBoot: bigint;
  readonly random: (octets: number) => Uint8Array;
  readonly io: EngineIo;
  readonly rekeyAfterPackets?: number;
  readonly marking?: TunnelMarking;
  /** Rates of every session; null (default): unlimited. */
  readonly policing?: SessionPolicing;
  /** A faster engine in front of this one. */
  readonly fast?: FastPath | null;
}): Engine {
  const { io, fast = null, marking = DEFAULT_MARKING } = options;
  const counters = new Counters();
  const due = new DueQueue<RelaySession>();
  const headers = packetHeaders();
  const echoLimit = createTokenBucket(ECHO_LIMIT.burst, ECHO_LIMIT.perSecond);
  const host: SessionHost = {
    relayBoot: options.relayBoot,
    random: options.random,
    counters,
    due,
    budget: { freeOctets: HOLD_BUDGET_OCTETS },
    rekeyAfterPackets: options.rekeyAfterPackets ?? REKEY_AFTER_PACKETS - REKEY_MARGIN_PACKETS,
    used: { counter: 0n, keyNumber: 0 },
    marking,
    policing: options.policing ?? { uplink: null, downlink: null },
    fast,
    settling: new Set(),
    toDevice: io.toDevice,
    event: io.event,
    learn: (session, flow, nowMs) => installed.learn(session, flow, nowMs),
  };
  const reassembly = new Reassembly<AddressEntry<RelaySession>, RelaySession>(counters, DATA.inner);
  const installed = new Installation(host, io.event);
  const { tables } = installed;

  function uplink(
    session: RelaySession,
    source: SocketAddress,
    buffer: Uint8Array,
    at: number,
    length: number,
    nowMs: number,
    outer: number,
  ): void {
    const innerAt = session.openData(source, buffer, at, length, nowMs);
    if (innerAt < 0) return;
    const innerLength = at + length - innerAt;
    const drop = readPacket(buffer, innerAt, innerLength, headers)
      ? decideUplink(tables, session, buffer, headers, nowMs)
      : 'malformed';
    if (drop !== null && drop !== 'fragment') {
      refuse(session, drop, nowMs);
      return;
    }
    const inner = trafficClass(buffer, innerAt);
    const octet = egressInner(marking, inner, outer);
    if (octet === CONGESTION_UNHEARD) {
      counters.count('uplink', 'congestion-unheard');
      return;
    }
    if (!session.admits('uplink', innerLength, nowMs)) {
      counters.count('uplink', 'policed');
      return;
    }
    if (octet !== inner) setTrafficClass(buffer, innerAt, octet);
    if (headers.fragment === 'whole' || !mustBeWhole(headers.sourceAt, buffer)) {
      counters.count('uplink', 'forwarded');
      io.toNetwork(buffer, innerAt, innerLength);
    } else {
      const pieces = reassembly.fromDevice(session, buffer, headers, nowMs);
      if (pieces !== null) piecesOut(session, pieces, nowMs);
    }
  }

  function refuse(session: RelaySession, drop: UplinkDrop, nowMs: number): void {
    counters.count('uplink', drop);
    const code = UPLINK_DROPS[drop];
    if (code !== 0) session.notify(code, nowMs);
  }

  /** A whole datagram in fragments: what the first one is, all are. */
  function piecesOut(session: RelaySession, pieces: readonly Uint8Array[], nowMs: number): void {
    const drop = readPiece(pieces[0]!)
      ? decideUplink(tables, session, pieces[0]!, headers, nowMs)
      : 'malformed';
    if (drop !== null) {
      refuse(session, drop, nowMs);
      return;
    }
    counters.count('uplink', 'forwarded', pieces.length);
    for (const piece of pieces) io.toNetwork(piece, DATA.inner, piece.length - DATA.inner);
  }

  /** The same from the public side. */
  function piecesIn(pieces: readonly Uint8Array[], nowMs: number): void {
    const lease = readPiece(pieces[0]!) ? decideDownlink(tables, pieces[0]!, headers, nowMs) : 'malformed';
    for (const piece of pieces) downlink(lease, piece, DATA.inner, piece.length - DATA.inner, nowMs);
  }

  function readPiece(piece: Uint8Array): boolean {
    return readPacket(piece, DATA.inner, piece.length - DATA.inner, headers);
  }

  /** True where a fragment alone does not say whose it is. */
  function mustBeWhole(addressAt: number, buffer: Uint8Array): boolean {
    const address = tables.at(buffer, addressAt, headers.addressLength);
    return address !== undefined && needsWholeDatagram(address);
  }

  function downlink(
    verdict: DownlinkVerdict<RelaySession>,
    buffer: Uint8Array,
    at: number,
    length: number,
    nowMs: number,
  ): void {
    if (verdict === ECHO) echo(buffer, at, length, nowMs);
    else if (typeof verdict === 'string') counters.count('downlink', verdict);
    else if (nowMs >= verdict.session.anchor.untilMs) counters.count('downlink', 'anchor-deadline');
    else if (!verdict.session.admits('downlink', length, nowMs)) counters.count('downlink', 'policed');
    else {
      installed.wake(verdict.session, nowMs);
      verdict.session.deliver(buffer, at, length, nowMs);
    }
  }

  /** An echo request to a shared address: answered for it while this relay owns its anchor, and seldom. */
  function echo(buffer: Uint8Array, at: number, length: number, nowMs: number): void {
    const [lease] = tables.at(buffer, headers.destinationAt, headers.addressLength)?.leases ?? [];
    if (lease === undefined || nowMs >= lease.session.anchor.untilMs) {
      counters.count('downlink', 'anchor-deadline');
    } else if (!echoLimit.take(nowMs)) {
      counters.count('downlink', 'echo-limited');
    } else {
      answerEcho(buffer, headers);
      counters.count('downlink', 'echo-answered');
      io.toNetwork(buffer, at, length);
    }
  }

  function rebind(command: Extract<EngineCommand, { op: 'rebind' }>, nowMs: number): void {
    const anchor = installed.expectAnchor(command.anchor);
    const { datagram, believed } = command;
    const session = anchor.byIndex.get(peekIndex(datagram, 0, datagram.length));
    if (session === undefined) counters.count('control', 'unknown-session');
    else if (nowMs >= anchor.untilMs) counters.count('control', 'anchor-deadline');
    else {
      installed.wake(session, nowMs);
      session.signalled(believed, datagram, nowMs);
    }
  }

  function execute(command: EngineCommand, nowMs: number): EngineAnswer {
    switch (command.op) {
      case 'host-addresses': {
        const addresses = command.addresses.map((text) => parseAddress(text, 'addresses'));
        tables.setHost(addresses);
        fast?.hostAddresses(addresses);
        return null;
      }
      case 'anchor':
        installed.putAnchor(command.anchor, nowMs);
        return null;
      case 'drop-anchor':
        installed.dropAnchor(command.anchor);
        return null;
      case 'deadline':
        setDeadline(installed.expectAnchor(command.anchor), command.untilMs);
        return null;
      case 'session':
        installed.putSession(command.anchor, command.session, nowMs);
        return null;
      case 'drop-session':
        installed.endSession(command.anchor, command.id);
        return null;
      case 'hints':
        installed.putHints(command.anchor, command.hints, nowMs);
        return null;
      case 'lease':
        installed.putLease(command.anchor, command.lease, command.untilMs, nowMs);
        return null;
      case 'drop-lease':
        installed.dropLease(command.id);
        return null;
      case 'follow':
        installed.follow(command.anchor, command.endpoints);
        return null;
      case 'unfollow':
        installed.unfollow(command.anchor);
        return null;
      case 'rebind':
        rebind(command, nowMs);
        return null;
      case 'export': {
        const anchor = installed.expectAnchor(command.anchor);
        freeze(anchor);
        // From here on nothing changes under the export's hands.
        fast?.settle();
        const sessions = [...anchor.byId.values()].map((session) => session.export());
        return { sessions: sessions.filter((state) => state !== null) };
      }
      case 'import': {
        const anchor = installed.expectAnchor(command.anchor);
        for (const state of command.sessions) {
          const session = anchor.byId.get(state.id);
          // One that ended meanwhile has nothing to continue.
          if (session === undefined) continue;
          anchor.waiting.delete(session);
          session.resume(state, nowMs);
        }
        thaw(anchor);
        return null;
      }
      case 'left-behind':
        return { anchors: fast?.leftBehind() ?? [] };
      case 'installed':
        fast?.dropUnclaimed(command.anchor);
        return null;
      case 'counters': {
        const own = counters.snapshot();
        return fast === null ? own : Counters.sum(own, fast.counters());
      }
      default:
        return command satisfies never;
    }
  }

  return {
    datagram(destination, source, buffer, at, length, nowMs, octet = 0) {
      const type = peekType(buffer, at, length);
      const isData = type === TYPE.data || type === TYPE.dataFull;
      const group = isData ? 'uplink' : 'control';
      const anchor = installed.atEndpoint(destination);
      const session = anchor?.byIndex.get(peekIndex(buffer, at, length));
      if (!isData && type !== TYPE.control) counters.count(group, 'unknown-type');
      else if (anchor === undefined) counters.count(group, 'unknown-endpoint');
      else if (session === undefined) counters.count(group, 'unknown-session');
      else if (nowMs >= anchor.untilMs) counters.count(group, 'anchor-deadline');
      else {
        installed.wake(session, nowMs);
        if (isData) uplink(session, source, buffer, at, length, nowMs, octet);
        else session.control(source, buffer, at, length, nowMs);
      }
    },

    packet(buffer, at, length, nowMs) {
      if (!readPacket(buffer, at, length, headers)) counters.count('downlink', 'malformed');
      else if (headers.fragment === 'whole' || !mustBeWhole(headers.destinationAt, buffer)) {
        downlink(decideDownlink(tables, buffer, headers, nowMs), buffer, at, length, nowMs);
      } else {
        const address = tables.at(buffer, headers.destinationAt, headers.addressLength)!;
        const pieces = reassembly.fromNetwork(address, buffer, headers, nowMs);
        if (pieces !== null) piecesIn(pieces, nowMs);
      }
    },

    command: <C extends EngineCommand>(command: C, nowMs: number) =>
      execute(command, nowMs) as EngineAnswer<C>,

    nextDueMs: () => Math.min(due.nextMs, installed.nextDueMs, reassembly.nextMs),

    tick(nowMs) {
      installed.beginSome(nowMs);
      // What is due beyond that waits for the next round: packets come in between.
      for (let left = SESSIONS_A_TICK; left > 0; left -= 1) {
        const session = due.take(nowMs);
        if (session === null) break;
        // Whoever does not own an anchor says nothing for it; its deadline may yet be moved.
        if (nowMs < session.anchor.untilMs) session.tick(nowMs);
        else due.schedule(session, nowMs + SUSPENDED_MS);
      }
      installed.tellBegun();
      installed.sweep(nowMs);
      reassembly.expire(nowMs);
    },

    bypassed(destination, buffer, at, length, nowMs) {
      const type = peekType(buffer, at, length);
      if (type !== TYPE.data && type !== TYPE.dataFull) return;
      const session = installed.atEndpoint(destination)?.byIndex.get(peekIndex(buffer, at, length));
      session?.bypassed(buffer, at, length, nowMs);
    },

    get settling() {
      return host.settling.size > 0;
    },

    settle(nowMs) {
      const settled = [...host.settling];
      host.settling.clear();
      for (const session of settled) session.settled(nowMs);
    },
  };
}
