/** A crowd of devices in one program of a host of the lab, each at the door by the code that real devices run. */
import { fileURLToPath } from 'node:url';
import { controlChannel } from '../lab/control-channel.ts';
import { AUDIENCE, type Fleet } from '../lab/fleet.ts';
import type { Lab, Namespace } from '../lab/lab.ts';
import { nodeCommand } from '../lab/node-command.ts';
import { deviceFile } from './configuration.ts';
import type { Arrived, GuestsCommand, GuestsPlan, GuestsReport } from './guests-program.ts';
import type { End } from './talk-program.ts';

export interface Guests {
  /** Each fetches a token, connects and leases, sixteen at a time. */
  arrive(names: readonly string[]): Promise<Arrived>;
  /** Politely: their leases are given back. Otherwise the devices are just gone. */
  leave(names: readonly string[], politely: boolean): Promise<void>;
  /** How many had an answer from the echo, through their own tunnels, within `withinMs`. */
  ask(withinMs: number): Promise<number>;
  report(): Promise<GuestsReport>;
}

/** Fewer than a door lets wait from one address. */
const WIDTH = 16;
const EXTENSION = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
const PROGRAM = fileURLToPath(new URL(`guests-program.${EXTENSION}`, import.meta.url));

/** Of the scenario's `device.yaml`; with an echo, each has a tunnel. */
export async function startGuests(
  lab: Lab,
  fleet: Fleet,
  namespace: Namespace,
  scenario: string,
  echo?: End,
): Promise<Guests> {
  const { pool, kind } = deviceFile(scenario);
  const plan: GuestsPlan = {
    ...{ signallingUrl: fleet.signallingUrl, tokenEndpoint: fleet.tokenEndpoint, audience: AUDIENCE },
    ...{ caFile: fleet.authorityFile, pool, kind, stateDir: lab.file('guests') },
    ...(echo === undefined ? {} : { echo }),
  };
  const program = await lab.spawn(namespace, nodeCommand(PROGRAM, JSON.stringify(plan)), {
    label: 'guests',
    control: true,
  });
  const { request } = controlChannel<GuestsCommand>('guests', program.control!);
  return {
    async arrive(names) {
      const guests = names.map((name) => ({ name, keyFile: fleet.clientKeyFile(name) }));
      return (await request({ op: 'arrive', guests, width: WIDTH })) as Arrived;
    },
    async leave(names, politely) {
      await request({ op: 'leave', names, politely });
    },
    ask: async (withinMs) => (await request({ op: 'ask', withinMs })) as number,
    report: async () => (await request({ op: 'report' })) as GuestsReport,
  };
}
