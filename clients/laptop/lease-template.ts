import { MooringError } from '../../src/protocol/errors.ts';
import type { Lease } from '../../src/protocol/lease.ts';

/** RFC 4303 §2.1: SPIs below are reserved. */
const FIRST_SPI = 0x100;
const LAST_SPI = 0xffff_ffff;
/** Those that a program may choose without a privilege. */
const FIRST_PORT = 1024;
const LAST_PORT = 65_535;

/**
 * A template with the lease's values in the place of `{{name}}`; a whole address has all ports and SPIs. `file` names it in
 * errors. Throws ERR_MOORING_TEMPLATE for a name that there is not, or that this lease has nothing for.
 */
export function filledTemplate(template: string, lease: Lease, file: string): string {
  const values = valuesOf(lease);
  return template.replace(/\{\{\s*([\w.]+)\s*\}\}/g, (_, name: string) => {
    const value = values.get(name);
    if (value === undefined) {
      throw new MooringError(
        'ERR_MOORING_TEMPLATE',
        `${file}: {{${name}}} stands for nothing; use one of ${[...values.keys()].join(', ')}, or lease a kind that has it`,
        { data: { file, name } },
      );
    }
    return value;
  });
}

function valuesOf({ id, address, ports, spis }: Lease): ReadonlyMap<string, string> {
  const isWhole = ports === null;
  const values = new Map([
    ['lease', id],
    ['address', address],
    ['ports.first', String(ports?.first ?? FIRST_PORT)],
    ['ports.last', String(ports === null ? LAST_PORT : ports.first + ports.count - 1)],
  ]);
  if (spis !== null || isWhole) {
    values.set('spis.first', hex(spis?.first ?? FIRST_SPI));
    values.set('spis.last', hex(spis === null ? LAST_SPI : spis.first + spis.count - 1));
  }
  return values;
}

function hex(spi: number): string {
  return `0x${spi.toString(16).padStart(8, '0')}`;
}
