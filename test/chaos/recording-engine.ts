import type { EngineAnswer, EngineCommand } from '../../src/datapath/engine-api.ts';
import type { EngineClient } from '../../src/datapath/userspace/client.ts';
import type { Lease } from '../../src/protocol/lease.ts';
import { monotonicMs } from '../../src/telemetry/clock.ts';
import { type Recorder, resourcesOf } from './history.ts';

/** In place of packets: writes down what a data path that obeys these commands would forward, and until when. */
export function recordingEngine(relay: string, boot: string, recorder: Recorder): EngineClient {
  /** Served now, and not frozen by an export. */
  const serving = new Set<string>();
  /** Served, frozen or followed: leases of others are not taken. */
  const known = new Set<string>();
  /** What an anchor that thaws goes on with: its claim, and its leases until when. */
  const claims = new Map<string, { epoch: string; untilMs: number }>();
  const installs = new Map<string, Map<string, { lease: Lease; untilMs: number }>>();

  function obey(command: EngineCommand): unknown {
    const of = { atMs: monotonicMs(), relay, boot };
    switch (command.op) {
      case 'anchor': {
        const { id: anchor, epoch, untilMs } = command.anchor;
        serving.add(anchor);
        known.add(anchor);
        claims.set(anchor, { epoch: String(epoch), untilMs });
        recorder.write({ type: 'serves', ...of, anchor, epoch: String(epoch), untilMs });
        return null;
      }
      case 'import': {
        const { anchor } = command;
        const claim = claims.get(anchor);
        if (claim === undefined || serving.has(anchor)) return null;
        serving.add(anchor);
        recorder.write({ type: 'serves', ...of, anchor, ...claim });
        for (const { lease, untilMs } of installs.get(anchor)?.values() ?? []) {
          recorder.write({
            ...{ type: 'installs', ...of, anchor, lease: lease.id, resources: resourcesOf(lease), untilMs },
          });
        }
        return null;
      }
      case 'follow':
        known.add(command.anchor);
        return null;
      case 'export':
        serving.delete(command.anchor);
        recorder.write({ type: 'stops', ...of, anchor: command.anchor });
        return { sessions: [] };
      case 'drop-anchor':
      case 'unfollow':
        if (command.op === 'unfollow' && serving.has(command.anchor)) return null;
        serving.delete(command.anchor);
        known.delete(command.anchor);
        claims.delete(command.anchor);
        installs.delete(command.anchor);
        recorder.write({ type: 'stops', ...of, anchor: command.anchor });
        return null;
      case 'deadline':
        if (claims.has(command.anchor)) claims.get(command.anchor)!.untilMs = command.untilMs;
        if (serving.has(command.anchor))
          recorder.write({ type: 'deadline', ...of, anchor: command.anchor, untilMs: command.untilMs });
        return null;
      case 'lease': {
        const { anchor, lease, untilMs } = command;
        if (!known.has(anchor)) throw new Error(`anchor ${anchor} is not installed`);
        const held = installs.get(anchor) ?? new Map<string, { lease: Lease; untilMs: number }>();
        installs.set(anchor, held.set(lease.id, { lease, untilMs }));
        recorder.write({
          ...{ type: 'installs', ...of, anchor, lease: lease.id, resources: resourcesOf(lease), untilMs },
        });
        return null;
      }
      case 'drop-lease':
        installs.get(command.anchor)?.delete(command.id);
        recorder.write({ type: 'uninstalls', ...of, anchor: command.anchor, lease: command.id });
        return null;
      case 'left-behind':
        return { anchors: [] };
      case 'counters':
        return { downlink: {}, uplink: {}, control: {} };
      default:
        return null;
    }
  }

  return {
    command: async (command) => obey(command) as EngineAnswer<typeof command>,
    onEvent: () => undefined,
    onExit: () => undefined,
    descriptors: {},
    status: { engine: 'userspace', interfaces: [], notes: ['recording'] },
    begin: () => undefined,
    close: async () => undefined,
  };
}
