import { linuxSystem } from '../../../clients/laptop/linux-system.ts';
import { MachineChanges } from '../../../clients/laptop/machine-changes.ts';
import { StateDir } from '../../../clients/laptop/state-dir.ts';
import { identityOf, type System } from '../../../clients/laptop/system-change.ts';
import type { Lease } from '../../../src/protocol/lease.ts';

export type FormName = 'shut' | 'open' | 'behind';

/** An agent's configurations, each as a user may have it. */
export const FORMS: Readonly<Record<FormName, ConstructorParameters<typeof MachineChanges>[0]>> = {
  shut: {
    ...{ tun: 'moor0', table: 4556, routes: ['198.18.0.0/15', '0.0.0.0/0'], killSwitch: true },
    ...{ dns: ['198.51.100.53'], charon: { file: '/run/charon.conf', reload: [] }, templates: [] },
  },
  open: {
    tun: 'moor0',
    table: 4556,
    routes: ['0.0.0.0/0'],
    killSwitch: false,
    dns: ['198.51.100.53'],
    templates: [],
  },
  behind: {
    tun: 'moor0',
    table: 4556,
    routes: [],
    behind: 'lan0',
    killSwitch: false,
    dns: [],
    templates: [],
  },
};

export const CONTROL = { destinations: [{ address: '192.0.2.2', port: 443 }], complete: true };
export const ADDRESS = '198.51.100.77';
const CONTROL_ELSEWHERE = { destinations: [{ address: '192.0.2.3', port: 443 }], complete: true };

export const leased = (address: string) => ({
  lease: { address, ports: { first: 4096, count: 64 }, spis: null } as Lease,
  mtu: 1280,
  endpoints: [{ address: '192.0.2.1', port: 4556 }],
});

type Stage = readonly [name: string, change: (changes: MachineChanges) => void];

const start: Stage = ['start', (changes) => changes.begin(CONTROL)];
const lease: Stage = ['lease', (changes) => changes.settle(leased(ADDRESS))];
const stop: Stage = ['stop', (changes) => changes.end(false)];

/** What changes the machine between the start and the end of an agent, in the agent's own words. */
const LIVES: Readonly<Record<FormName, readonly Stage[]>> = {
  shut: [start, lease, ['move', (changes) => changes.controlAt(CONTROL_ELSEWHERE)], stop],
  open: [start, lease, ['lease ended', (changes) => changes.leaseEnded()], lease, stop],
  behind: [start, lease, ['next lease', (changes) => changes.settle(leased('198.51.100.99'))], stop],
};

/** A step that is done: on the disk or on the machine. */
export interface Step {
  readonly stage: string;
  readonly did: string;
}

/**
 * Lives an agent's life on this machine, and tells of every step just behind it; what is told may end the process, or
 * throw to end the life.
 */
export function live(form: FormName, stateDir: string, did: (step: Step) => void): void {
  let stage = '';
  const step = (text: string): void => did({ stage, did: text });
  const changes = new MachineChanges(FORMS[form], new ToldStateDir(stateDir, step), toldSystem(step));
  for (const [name, change] of LIVES[form]) {
    stage = name;
    change(changes);
  }
}

/** The machine, with a word about every change of it. */
export function toldSystem(step: (text: string) => void): System {
  return {
    ...linuxSystem,
    make(change) {
      linuxSystem.make(change);
      step(`made ${identityOf(change)}`);
    },
    unmake(change) {
      linuxSystem.unmake(change);
      step(`took back ${identityOf(change)}`);
    },
  };
}

class ToldStateDir extends StateDir {
  readonly #step: (text: string) => void;

  constructor(path: string, step: (text: string) => void) {
    super(path);
    this.#step = step;
  }

  override write(name: string, text: string): void {
    super.write(name, text);
    this.#step(`wrote ${name}`);
  }

  override append(name: string, line: string): void {
    super.append(name, line);
    this.#step(`wrote to ${name}: ${line.trim()}`);
  }

  override remove(name: string): void {
    super.remove(name);
    this.#step(`removed ${name}`);
  }
}
