import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compileBpf } from '../../infra/build/xdp.ts';

const SOURCES = join(import.meta.dirname, '../../src/datapath/xdp');

/** One deliberate fault in the XDP program: `find` occurs exactly once in `file`. */
export interface XdpMutation {
  readonly name: string;
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

/** Compiles a copy of the program with one fault planted, so that the program itself needs no place for faults. */
export function compileMutant({ name, file, find, replace }: XdpMutation): Uint8Array {
  const folder = mkdtempSync(join(tmpdir(), 'mooring-mutant-'));
  try {
    for (const source of readdirSync(SOURCES)) {
      if (/\.[ch]$/.test(source)) copyFileSync(join(SOURCES, source), join(folder, source));
    }
    const text = readFileSync(join(SOURCES, file), 'utf8');
    if (text.split(find).length !== 2) {
      throw new Error(`mutation "${name}": ${JSON.stringify(find)} must occur exactly once in ${file}`);
    }
    writeFileSync(
      join(folder, file),
      text.replace(find, () => replace),
    );
    return compileBpf({ folder, file: 'relay.bpf.c' }, ['MOORING_TEST_CLOCK']);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
