import { readFileSync, writeFileSync } from 'node:fs';
import { MooringError } from '../protocol/errors.ts';

/**
 * A value under /proc/sys, trimmed, of the network namespace that the process runs in. `name` is written with slashes
 * (`net/ipv4/conf/eth0.7/forwarding`): device names may contain dots. Throws ERR_MOORING_SYSCTL.
 */
export function readSysctl(name: string): string {
  try {
    return readFileSync(pathOf(name), 'utf8').trim();
  } catch (error) {
    throw failure('read', name, error);
  }
}

/**
 * Sets a value and returns the former one, so that the caller can put it back; an equal value is not
 * written, so that a read-only /proc that already agrees is no obstacle. Throws ERR_MOORING_SYSCTL.
 */
export function writeSysctl(name: string, value: string): string {
  const former = readSysctl(name);
  if (former === value) return former;
  try {
    writeFileSync(pathOf(name), value);
  } catch (error) {
    throw failure(`set to ${value}`, name, error);
  }
  return former;
}

function pathOf(name: string): string {
  if (name.split('/').some((part) => part === '' || part === '..' || part === '.')) {
    throw failure('find', name, new Error('not a name below /proc/sys'));
  }
  return `/proc/sys/${name}`;
}

function failure(verb: string, name: string, cause: unknown): MooringError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new MooringError(
    'ERR_MOORING_SYSCTL',
    `cannot ${verb} ${name}: ${why}; run as root with a writable /proc/sys, or set it before the start`,
    { data: { name }, cause },
  );
}
