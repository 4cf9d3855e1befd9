import type { AgentStatus, LinkStatus } from './status.ts';

/** The agent's state for a person, a line for each thing. */
export function summary(status: AgentStatus): string {
  const { lease, path, links, signalling, counters } = status;
  const last = status.moves.at(-1);
  const lines = [
    `state       ${status.state}`,
    `lease       ${lease === null ? 'none' : leaseText(lease)}`,
    path === null
      ? 'path        none'
      : `path        ${path.link}, seen as ${path.observed ?? 'unknown'}, round trip ${path.rttMs.toFixed(1)} ms, generation ${path.generation}`,
    ...(status.killSwitch ? ['kill switch on'] : []),
    `links       ${links.map(linkText).join('; ') || 'none'}`,
    ...status.remarks.map((remark) => `remark      ${remark}`),
    `signalling  ${signalling.connected ? 'connected' : `not connected${signalling.lastError === null ? '' : `: ${signalling.lastError}`}`}`,
  ];
  const counted = Object.entries(counters).filter(([, count]) => count > 0);
  if (counted.length > 0)
    lines.push(`packets     ${counted.map(([name, count]) => `${name} ${count}`).join(', ')}`);
  if (last !== undefined) {
    const took = last.bound === null ? 'not confirmed yet' : `took ${last.bound.tookMs.toFixed(0)} ms`;
    lines.push(`last move   ${last.from ?? '(start)'} → ${last.to}, ${took}`);
  }
  return lines.join('\n');
}

function linkText({ id, measured, passedOver }: LinkStatus): string {
  if (measured === null) return id;
  const { rttMs, lossPercent } = measured;
  const figures = [
    ...(rttMs === null ? [] : [`${rttMs.toFixed(1)} ms`]),
    ...(lossPercent === 0 ? [] : [`${lossPercent.toFixed(0)} % lost`]),
    ...(passedOver ? ['passed over'] : []),
  ];
  return `${id} ${figures.join(', ')}`;
}

function leaseText(lease: NonNullable<AgentStatus['lease']>): string {
  const { address, ports, spis, ikeSpis, remote, kind, id } = lease;
  const block = (name: string, of: { readonly first: number; readonly count: number } | null): string =>
    of === null ? '' : `, ${name} ${of.first}–${of.first + of.count - 1}`;
  // IKE SPIs are written as daemons' settings take them: the leading octets of eight.
  const ike =
    ikeSpis == null ? '' : `, IKE SPIs ${hex32(ikeSpis.first)}…–${hex32(ikeSpis.first + ikeSpis.count - 1)}…`;
  const only =
    remote == null ? '' : `, to ${remote.address}${remote.port === null ? '' : ` port ${remote.port}`}`;
  return `${address}${block('ports', ports)}${block('SPIs', spis)}${ike}${only} (${kind}, ${id})`;
}

function hex32(value: number): string {
  return value.toString(16).padStart(8, '0');
}
