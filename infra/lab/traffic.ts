/** Numbered traffic between namespaces: starts one probe per namespace, and measures flows over windows of time. */
import { mkdirSync } from 'node:fs';
import { analyseWindow, together, type Window, type WindowReport } from './analysis.ts';
import { controlChannel } from './control-channel.ts';
import type { Lab, LabProcess, Namespace } from './lab.ts';
import { labProgram } from './node-command.ts';
import type { Endpoint, ProbeCommand, ProbeConfiguration, ProbeFlow, ProbeReport } from './probe.ts';
import { readTrace } from './probe-log.ts';

/** Addresses are the same at both ends: a flow runs inside an association, or over a path without translation. */
export type FlowEnd = Endpoint & { readonly namespace: Namespace };

export interface FlowOptions {
  /** Unique among the flows that are started together. */
  readonly name: string;
  readonly device: FlowEnd;
  readonly peer: FlowEnd;
  /** In each direction. */
  readonly packetsPerSecond: number;
  /** UDP payload; default 100. */
  readonly payloadOctets?: number;
  /** The device sends nothing. Default: it sends as much as the peer. */
  readonly receiveOnlyDevice?: boolean;
}

export interface FlowReport {
  /** From device to peer. */
  readonly up: WindowReport;
  /** From peer to device. */
  readonly down: WindowReport;
  readonly both: WindowReport;
}

export interface Traffic {
  /** Begins (or goes on) to send on all flows at once. */
  start(): Promise<void>;
  /** Stops sending; receiving goes on. */
  pause(): Promise<void>;
  /** What the probes recorded of one flow in a window of `monotonicMs`; measure a little after the window's end. */
  measure(flow: string, window: Window): Promise<FlowReport>;
  /** Datagrams that the probes themselves were too slow to take, per probe: must be 0 for a measurement to count. */
  socketDrops(): Promise<number>;
  stop(): Promise<void>;
}

interface Probe {
  readonly process: LabProcess;
  readonly directory: string;
  readonly request: (command: ProbeCommand) => Promise<unknown>;
}

let generation = 0;

export async function startTraffic(lab: Lab, flows: readonly FlowOptions[]): Promise<Traffic> {
  const root = lab.file(`traffic-${++generation}`);
  const plans = new Map<Namespace, ProbeFlow[]>();
  const plan = (here: FlowEnd, there: FlowEnd, flow: FlowOptions, packetsPerSecond: number) => {
    const entry: ProbeFlow = {
      name: flow.name,
      local: { address: here.address, port: here.port },
      remote: { address: there.address, port: there.port },
      packetsPerSecond,
      payloadOctets: flow.payloadOctets ?? 100,
    };
    plans.set(here.namespace, [...(plans.get(here.namespace) ?? []), entry]);
  };
  for (const flow of flows) {
    plan(flow.device, flow.peer, flow, flow.receiveOnlyDevice ? 0 : flow.packetsPerSecond);
    plan(flow.peer, flow.device, flow, flow.packetsPerSecond);
  }

  const probes = new Map<Namespace, Probe>();
  await Promise.all(
    [...plans].map(async ([namespace, planned]) => {
      const directory = `${root}/${namespace}`;
      mkdirSync(directory, { recursive: true });
      const configuration: ProbeConfiguration = { directory, flows: planned };
      const argv = labProgram('probe', JSON.stringify(configuration));
      const label = `probe ${namespace}`;
      const child = await lab.spawn(namespace, argv, { label, control: true });
      const channel = controlChannel<ProbeCommand>(label, child.control!);
      // The first answer tells that its sockets are open.
      await channel.request({ op: 'report' });
      probes.set(namespace, { process: child, directory, request: channel.request });
    }),
  );
  const everyone = async (op: ProbeCommand['op']) =>
    Promise.all([...probes.values()].map((probe) => probe.request({ op })));

  return {
    async start() {
      await everyone('start');
    },
    async pause() {
      await everyone('pause');
    },
    async measure(name, window) {
      const flow = flows.find((candidate) => candidate.name === name);
      if (!flow) throw new Error(`there is no flow ${name}`);
      await everyone('report');
      const device = probes.get(flow.device.namespace)!.directory;
      const peer = probes.get(flow.peer.namespace)!.directory;
      const up = analyseWindow(readTrace(device, peer, name), window);
      const down = analyseWindow(readTrace(peer, device, name), window);
      return { up, down, both: together(up, down) };
    },
    async socketDrops() {
      const reports = (await everyone('report')) as ProbeReport[];
      return reports.reduce((sum, report) => sum + report.socketDrops, 0);
    },
    async stop() {
      await Promise.all([...probes.values()].map((probe) => probe.process.stop()));
    },
  };
}
