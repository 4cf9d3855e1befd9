/** The lab's side of the link emulator: starts the program, makes links, moves their ends where they belong. */
import { type ControlChannel, controlChannel } from './control-channel.ts';
import type { LinkShape } from './delay-line.ts';
import type { Lab, Namespace } from './lab.ts';
import { processorMs } from './lab-process.ts';
import type { EmulatorCommand, LinkCounters } from './link-emulator.ts';
import { labProgram } from './node-command.ts';

export interface LinkEnd {
  readonly namespace: Namespace;
  readonly interface: string;
}

export interface EmulatedLink {
  /** Changes delay, loss or `dead` from now on. */
  shape(change: Partial<LinkShape>): Promise<void>;
  /** Pulls (false) or plugs (true) the cable at both ends; what is in flight is lost. */
  carrier(up: boolean): Promise<void>;
  counters(): Promise<LinkCounters>;
}

export interface LinkEmulator {
  /**
   * Makes a link between two new interfaces, both still down.
   * @param seed of the loss; the same seed loses the same frames
   */
  link(ends: readonly [LinkEnd, LinkEnd], shape: LinkShape, seed: number): Promise<EmulatedLink>;
  /** Processor time that the emulator has used, in milliseconds. */
  processorMs(): number;
}

export async function startLinkEmulator(lab: Lab): Promise<LinkEmulator> {
  const namespace = await lab.namespace('links');
  const program = await lab.spawn(namespace, labProgram('link-emulator'), {
    label: 'link emulator',
    control: true,
  });
  const control: ControlChannel<EmulatorCommand> = controlChannel('link emulator', program.control!);
  let count = 0;
  return {
    processorMs: () => processorMs(program.pid),
    async link(ends, shape, seed) {
      const link = `t${count++}`;
      const taps = [`${link}a`, `${link}b`] as const;
      await control.request({ op: 'link', link, ends: taps, shape, seed });
      await lab.ip(
        namespace,
        ends.map((end, side) => `link set dev ${taps[side]} netns ${end.namespace} name ${end.interface}`),
      );
      return {
        async shape(change) {
          await control.request({ op: 'shape', link, change });
        },
        async carrier(up) {
          await control.request({ op: 'carrier', link, up });
        },
        async counters() {
          return (await control.request({ op: 'counters', link })) as LinkCounters;
        },
      };
    },
  };
}
