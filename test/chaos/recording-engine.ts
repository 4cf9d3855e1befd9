import type { EngineAnswer, EngineCommand } from '../../src/datapath/engine-api.ts';
import type { EngineClient } from '../../src/datapath/userspace/client.ts';
import { monotonicMs } from '../../src/telemetry/clock.ts';
import { type Recorder, resourcesOf } from './history.ts';

/** In place of packets: writes down what a data path that obeys these commands would forward, and until when. */
export function recordingEngine(relay: string, boot: string, recorder: Recorder): EngineClient {
  /** Served now, and not frozen by an export. */
  const serving = new Set<string>();
  /** Served, frozen or followed: leases of others are not taken. */
  const known = new Set<string>();

  function obey(command: EngineCommand): unknown {
    const of = { atMs: monotonicMs(), relay, boot };
    switch (command.op) {
      case 'anchor': {
        const { id: anchor, epoch, untilMs } = command.anchor;
        serving.add(anchor);
        known.add(anchor);
        recorder.write({ type: 'serves', ...of, anchor, epoch: String(epoch), untilMs });
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
        recorder.write({ type: 'stops', ...of, anchor: command.anchor });
        return null;
      case 'deadline':
        if (serving.has(command.anchor))
          recorder.write({ type: 'deadline', ...of, anchor: command.anchor, untilMs: command.untilMs });
        return null;
      case 'lease': {
        const { anchor, lease, untilMs } = command;
        if (!known.has(anchor)) throw new Error(`anchor ${anchor} is not installed`);
        recorder.write({
          ...{ type: 'installs', ...of, anchor, lease: lease.id, resources: resourcesOf(lease), untilMs },
        });
        return null;
      }
      case 'drop-lease':
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
