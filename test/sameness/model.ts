import { decideDownlink } from '../../src/datapath/decision/downlink.ts';
import { answerEcho } from '../../src/datapath/decision/echo.ts';
import { FragmentStore } from '../../src/datapath/decision/fragments.ts';
import { type PacketHeaders, packetHeaders, readPacket } from '../../src/datapath/decision/packet.ts';
import { type AddressEntry, LeaseTables, needsWholeDatagram } from '../../src/datapath/decision/tables.ts';
import { decideUplink } from '../../src/datapath/decision/uplink.ts';
import { ECHO, UPLINK_DROPS, type UplinkDrop } from '../../src/datapath/decision/verdict.ts';
import type {
  EngineAnchor,
  EngineAnswer,
  EngineCommand,
  EngineSession,
} from '../../src/datapath/engine-api.ts';
import type { Engine } from '../../src/datapath/userspace/engine.ts';
import { parseAddress } from '../../src/protocol/address.ts';
import { MooringError } from '../../src/protocol/errors.ts';
import { createTokenBucket } from '../../src/rebinding/token-bucket.ts';
import { CONGESTION_UNHEARD, egressInner, setTrafficClass, trafficClass } from '../../src/tunnel/dscp-ecn.ts';
import { DATA, TYPE } from '../../src/tunnel/wire.ts';
import { type ModelAnchor, type ModelHost, ModelSession } from './model-session.ts';
import type { MakeEngine } from './subject.ts';

/**
 * The reference: `decision/` itself, with the plainest tables around it that say what a relay is. No queue, cache or
 * limit that does not show on the wire.
 */
export const makeModel: MakeEngine = (options): Engine => {
  const { relayBoot, random, io, rekeyAfterPackets, marking, policing } = options;
  const tables = new LeaseTables<ModelSession>();
  const anchors: ModelAnchor[] = [];
  const counts = { uplink: new Map<string, number>(), downlink: new Map<string, number>() };
  const headers = packetHeaders();
  const fragments = {
    downlink: new FragmentStore<AddressEntry<ModelSession>>(0),
    uplink: new FragmentStore<ModelSession>(0),
  };
  const echoes = createTokenBucket(50, 200);
  const host: ModelHost = {
    relayBoot,
    random,
    rekeyAfterPackets,
    used: { counter: 0n, keyNumber: 0 },
    marking,
    policing,
    toDevice: (endpoint, path, octets, outer) => io.toDevice(endpoint, path, octets, 0, octets.length, outer),
    count,
  };

  function count(direction: 'uplink' | 'downlink', name: string, packets = 1): void {
    counts[direction].set(name, (counts[direction].get(name) ?? 0) + packets);
  }

  function fromNetwork(packet: Uint8Array, nowMs: number): void {
    if (!readPacket(packet, 0, packet.length, headers)) {
      count('downlink', 'malformed');
      return;
    }
    const address = tables.at(packet, headers.destinationAt, headers.addressLength);
    if (headers.fragment === 'whole' || address === undefined || !needsWholeDatagram(address)) {
      downlink(decideDownlink(tables, packet, headers, nowMs), packet, nowMs);
      return;
    }
    const pieces = fragments.downlink.add(address, packet, headers, nowMs);
    countEvicted('downlink');
    if (typeof pieces === 'string') {
      count('downlink', pieces);
      return;
    }
    // What the first one is, all are.
    const readable = readPacket(pieces[0]!, 0, pieces[0]!.length, headers);
    const verdict = readable ? decideDownlink(tables, pieces[0]!, headers, nowMs) : 'malformed';
    for (const piece of pieces) downlink(verdict, piece, nowMs);
  }

  function downlink(
    verdict: ReturnType<typeof decideDownlink<ModelSession>>,
    packet: Uint8Array,
    nowMs: number,
  ): void {
    if (verdict === ECHO) echo(packet, nowMs);
    else if (typeof verdict === 'string') count('downlink', verdict);
    else if (nowMs >= verdict.session.anchor.untilMs) count('downlink', 'anchor-deadline');
    else if (!verdict.session.pays('downlink', packet.length, nowMs)) count('downlink', 'policed');
    else verdict.session.deliver(packet, nowMs);
  }

  function echo(packet: Uint8Array, nowMs: number): void {
    const [lease] = tables.at(packet, headers.destinationAt, headers.addressLength)?.leases ?? [];
    if (lease === undefined || nowMs >= lease.session.anchor.untilMs) count('downlink', 'anchor-deadline');
    else if (!echoes.take(nowMs)) count('downlink', 'echo-limited');
    else {
      const reply = packet.slice();
      answerEcho(reply, headers);
      count('downlink', 'echo-answered');
      io.toNetwork(reply, 0, reply.length);
    }
  }

  function fromDevice(session: ModelSession, packet: Uint8Array, outerClass: number, nowMs: number): void {
    const drop = decideFrom(session, packet, nowMs);
    if (drop !== null && drop !== 'fragment') {
      refuse(session, drop, nowMs);
      return;
    }
    const marked = egressInner(marking, trafficClass(packet, 0), outerClass);
    if (marked === CONGESTION_UNHEARD) count('uplink', 'congestion-unheard');
    else if (!session.pays('uplink', packet.length, nowMs)) count('uplink', 'policed');
    else {
      setTrafficClass(packet, 0, marked);
      goesOut(session, packet, nowMs);
    }
  }

  function goesOut(session: ModelSession, packet: Uint8Array, nowMs: number): void {
    if (headers.fragment === 'whole' || !mustBeWhole(packet, headers)) out([packet]);
    else {
      const pieces = fragments.uplink.add(session, packet, headers, nowMs);
      countEvicted('uplink');
      if (typeof pieces === 'string') count('uplink', pieces);
      else {
        const refusal = decideFrom(session, pieces[0]!, nowMs);
        if (refusal !== null) refuse(session, refusal, nowMs);
        else out(pieces);
      }
    }
  }

  function decideFrom(session: ModelSession, packet: Uint8Array, nowMs: number): UplinkDrop | null {
    if (!readPacket(packet, 0, packet.length, headers)) return 'malformed';
    return decideUplink(tables, session, packet, headers, nowMs);
  }

  function out(packets: readonly Uint8Array[]): void {
    count('uplink', 'forwarded', packets.length);
    for (const packet of packets) io.toNetwork(packet, 0, packet.length);
  }

  function refuse(session: ModelSession, drop: UplinkDrop, nowMs: number): void {
    count('uplink', drop);
    const code = UPLINK_DROPS[drop];
    if (code !== 0) session.notify(code, nowMs);
  }

  function mustBeWhole(packet: Uint8Array, { sourceAt, addressLength }: PacketHeaders): boolean {
    const address = tables.at(packet, sourceAt, addressLength);
    return address !== undefined && needsWholeDatagram(address);
  }

  function countEvicted(direction: 'uplink' | 'downlink'): void {
    const evicted = fragments[direction].takeEvicted();
    if (evicted > 0) count(direction, 'fragment-evicted', evicted);
  }

  // Installation ------------------------------------------------------------------------------------------------

  function anchorOf(id: string): ModelAnchor {
    const anchor = anchors.find((one) => one.id === id);
    if (anchor === undefined) throw new MooringError('ERR_MOORING_UNKNOWN_ANCHOR', `there is no ${id}`);
    return anchor;
  }

  function putAnchor({ id, endpoints, epoch, untilMs, resumes }: EngineAnchor): void {
    const known = anchors.find((one) => one.id === id);
    if (known !== undefined && known.epoch === epoch) {
      known.grantedMs = untilMs;
      if (resumes !== true) known.frozen = false;
      return;
    }
    if (known !== undefined) dropAnchor(id);
    anchors.push({
      id,
      endpoints,
      epoch,
      grantedMs: untilMs,
      frozen: resumes === true,
      sessions: [],
      get untilMs() {
        return this.frozen ? Number.NEGATIVE_INFINITY : this.grantedMs;
      },
    });
    for (const endpoint of endpoints) tables.addEndpoint(parseAddress(endpoint));
  }

  function dropAnchor(id: string): void {
    const at = anchors.findIndex((one) => one.id === id);
    if (at < 0) return;
    const [anchor] = anchors.splice(at, 1);
    for (const session of [...anchor!.sessions]) dropSession(session);
    for (const endpoint of anchor!.endpoints) tables.removeEndpoint(parseAddress(endpoint));
  }

  function putSession(anchor: ModelAnchor, wanted: EngineSession, nowMs: number): void {
    const { id, index } = wanted;
    if (anchor.sessions.some((one) => one.id === id && one.index === index)) return;
    const session = new ModelSession(host, anchor, wanted, nowMs);
    for (const old of anchor.sessions.filter((one) => one.id === id || one.index === index)) dropSession(old);
    anchor.sessions.push(session);
  }

  function dropSession(session: ModelSession): void {
    for (const lease of [...tables.leases()]) if (lease.session === session) tables.remove(lease.id);
    session.retire();
    session.anchor.sessions.splice(session.anchor.sessions.indexOf(session), 1);
  }

  function execute(command: EngineCommand, nowMs: number): EngineAnswer {
    switch (command.op) {
      case 'host-addresses':
        tables.setHost(command.addresses.map((text) => parseAddress(text)));
        return null;
      case 'anchor':
        putAnchor(command.anchor);
        return null;
      case 'drop-anchor':
        dropAnchor(command.anchor);
        return null;
      case 'deadline':
        anchorOf(command.anchor).grantedMs = command.untilMs;
        return null;
      case 'session':
        putSession(anchorOf(command.anchor), command.session, nowMs);
        return null;
      case 'drop-session': {
        const session = anchors
          .find(({ id }) => id === command.anchor)
          ?.sessions.find(({ id }) => id === command.id);
        if (session !== undefined) dropSession(session);
        return null;
      }
      case 'lease': {
        const { lease, untilMs } = command;
        const session = anchorOf(command.anchor).sessions.find(({ id }) => id === lease.session);
        if (session === undefined)
          throw new MooringError('ERR_MOORING_UNKNOWN_SESSION', `there is no ${lease.session}`);
        tables.put(lease, session, untilMs, nowMs);
        return null;
      }
      case 'drop-lease':
        tables.remove(command.id);
        return null;
      case 'export': {
        const anchor = anchorOf(command.anchor);
        const sessions = anchor.sessions.map((session) => session.export());
        anchor.frozen = true;
        return { sessions: sessions.filter((state) => state !== null) };
      }
      case 'import': {
        const anchor = anchorOf(command.anchor);
        for (const state of command.sessions)
          anchor.sessions.find(({ id }) => id === state.id)?.resume(state, nowMs);
        anchor.frozen = false;
        return null;
      }
      case 'counters':
        return {
          uplink: Object.fromEntries(counts.uplink),
          downlink: Object.fromEntries(counts.downlink),
          control: {},
        };
      default:
        throw new Error(`no story says ${command.op}`);
    }
  }

  return {
    datagram(destination, source, buffer, at, length, nowMs, octet = 0) {
      const octets = buffer.slice(at, at + length);
      const type = (octets[0] ?? 0) >> 4;
      const isData = type === TYPE.data || type === TYPE.dataFull;
      const anchor = anchors.find(({ endpoints }) => endpoints.includes(destination));
      const index = length < 4 ? 0 : (octets[1]! << 16) | (octets[2]! << 8) | octets[3]!;
      const session = anchor?.sessions.find((one) => one.index === index);
      if (!isData && type !== TYPE.control) return;
      if (session === undefined || nowMs >= session.anchor.untilMs) {
        const why =
          anchor === undefined
            ? 'unknown-endpoint'
            : session === undefined
              ? 'unknown-session'
              : 'anchor-deadline';
        if (isData) count('uplink', why);
      } else if (!isData) session.control(source, octets, nowMs);
      else if (session.data(source, octets, nowMs))
        fromDevice(session, octets.slice(DATA.inner), octet, nowMs);
    },
    packet: (buffer, at, length, nowMs) => fromNetwork(buffer.slice(at, at + length), nowMs),
    command: (command, nowMs) => execute(command, nowMs) as EngineAnswer<typeof command>,
    bypassed: () => {},
    settling: false,
    settle: () => {},
    nextDueMs: () =>
      Math.min(
        fragments.uplink.nextMs,
        fragments.downlink.nextMs,
        ...anchors.flatMap(({ sessions }) => sessions.map((session) => session.dueMs)),
      ),
    tick(nowMs) {
      for (const anchor of anchors) {
        for (const session of anchor.sessions) if (session.dueMs <= nowMs) session.tick(nowMs);
      }
      for (const direction of ['uplink', 'downlink'] as const) {
        const gone = fragments[direction].expire(nowMs);
        if (gone > 0) count(direction, 'fragment-timeout', gone);
      }
    },
  };
};
