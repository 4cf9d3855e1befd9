import { readSysctl } from '../../src/linux/sysctl.ts';
import { ChangeLog } from './change-log.ts';
import type { ControlHosts } from './control-hosts.ts';
import { isKillSwitch, killSwitch } from './kill-switch.ts';
import { linuxSystem } from './linux-system.ts';
import { leadsOwnTraffic, type Machine, type Planned, planNetwork } from './network-plan.ts';
import { formerFile } from './replaced-file.ts';
import type { StateDir } from './state-dir.ts';
import type { System } from './system-change.ts';

const THIS_MACHINE: Machine = { sysctl: readSysctl, file: formerFile };

/** What a lease asks of the machine. */
export type Leased = Omit<Planned, 'control'>;

/** Where signalling and issuer are, and whether that is all of it. */
export type ControlPlaces = Pick<ControlHosts, 'destinations' | 'complete'>;

type MachineSettings = Parameters<typeof planNetwork>[0];

/**
 * What the agent changes on its machine from start to end. Promises, also to whoever starts after a kill -9: every
 * change can be taken back; while there is no lease, and the kill switch is off, the machine's own traffic goes its own
 * way; the kill switch, once closed, stays so until it is opened by word.
 */
export class MachineChanges {
  readonly #config: MachineSettings;
  readonly #log: ChangeLog;
  #control: ControlPlaces = { destinations: [], complete: false };
  #leased: Leased | null = null;
  #ended = false;

  constructor(config: MachineSettings, state: StateDir, system: System = linuxSystem) {
    this.#config = config;
    this.#log = new ChangeLog(state, system);
  }

  /** Changes that stand, or may: a process that was killed may have got no further than to write one down. */
  get count(): number {
    return this.#log.made.length;
  }

  get isShut(): boolean {
    return this.#log.made.some((change) => isKillSwitch(change));
  }

  /** Before anything is asked of a network. */
  begin(control: ControlPlaces): void {
    this.controlAt(control);
    if (this.#config.killSwitch) return;
    this.#log.restore((change) => !isKillSwitch(change));
    this.#freeOwnTraffic();
  }

  controlAt(control: ControlPlaces): void {
    if (this.#ended) return;
    this.#control = control;
    const { killSwitch: isWanted, tun, table } = this.#config;
    if (this.#leased !== null) this.settle(this.#leased);
    else if (isWanted && control.complete) {
      this.#log.add(killSwitch({ tun, table, endpoints: [], control: control.destinations }));
    }
  }

  /** Brings the machine to the lease. Throws ERR_MOORING_CONFLICT, ERR_MOORING_BEHIND. */
  settle(leased: Leased): void {
    this.#leased = leased;
    this.#log.become(
      planNetwork(this.#config, { ...leased, control: this.#control.destinations }, THIS_MACHINE),
    );
  }

  /** There is no lease for now. */
  leaseEnded(): void {
    this.#leased = null;
    if (!this.#config.killSwitch) this.#freeOwnTraffic();
  }

  /** Takes everything back, the kill switch only when it is `opened`. Throws ERR_MOORING_RESTORE. */
  end(opened: boolean): void {
    this.#ended = true;
    this.#log.restore((change) => !opened && isKillSwitch(change));
  }

  /** What the leased address itself needs stays: nothing of the lease may leave beside the tunnel. */
  #freeOwnTraffic(): void {
    this.#log.restore((change) => !leadsOwnTraffic(change));
  }
}
