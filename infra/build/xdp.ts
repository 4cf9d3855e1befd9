import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

/**
 * Compiles the XDP program with clang. As a command it writes the object that ships,
 * `dist/src/datapath/xdp/relay.bpf.o`; without clang it says so and leaves the userspace engine to do all the work.
 */

const ROOT = fileURLToPath(new URL('../..', import.meta.url)).replace(/dist\/$/, '');
const SOURCES = join(ROOT, 'src/datapath/xdp');
const SHIPPED = join(ROOT, 'dist/src/datapath/xdp/relay.bpf.o');

const FLAGS = ['-O2', '-g', '-target', 'bpf', '-mcpu=v3', '-Wall', '-Wextra', '-Werror', '-fno-builtin'];
/** Where Debian keeps the kernel's headers of this machine's architecture (asm/types.h). */
const HEADERS = { x64: '/usr/include/x86_64-linux-gnu', arm64: '/usr/include/aarch64-linux-gnu' };

/** Whether the C program can be compiled here. */
export function hasClang(): boolean {
  return spawnSync('clang', ['--version'], { stdio: 'ignore' }).status === 0;
}

/**
 * Compiles the program with `defines` (`MOORING_TEST_CLOCK`, `MUTANT_…`; default none) and returns its octets. An object
 * of the same sources, compiler and defines is taken from the temporary folder. Throws with what clang said.
 */
export function compileXdp(defines: readonly string[] = []): Uint8Array {
  return compileBpf({ folder: SOURCES, file: 'relay.bpf.c' }, defines);
}

/** The same for another program. `folder` is relative to the project's top. */
export function compileBpf(
  source: { readonly folder: string; readonly file: string },
  defines: readonly string[] = [],
): Uint8Array {
  const folder = resolve(ROOT, source.folder);
  const cached = join(tmpdir(), `mooring-xdp-${fingerprint(folder, source.file, defines)}.o`);
  if (!existsSync(cached)) {
    const made = `${cached}.${process.pid}`;
    compile(folder, source.file, made, defines);
    renameSync(made, cached);
  }
  return readFileSync(cached);
}

function compile(folder: string, file: string, output: string, defines: readonly string[]): void {
  const headers = HEADERS[process.arch as keyof typeof HEADERS] ?? '/usr/include';
  const args = [
    ...FLAGS,
    ...defines.map((name) => `-D${name}`),
    '-idirafter',
    headers,
    '-c',
    file,
    '-o',
    output,
  ];
  const done = spawnSync('clang', args, { cwd: folder, encoding: 'utf8' });
  if (done.status !== 0) {
    throw new Error(
      `clang ${args.join(' ')} failed (${done.error?.message ?? `exit ${done.status}`})\n${done.stderr}`,
    );
  }
}

function fingerprint(folder: string, file: string, defines: readonly string[]): string {
  const hash = createHash('sha256').update(JSON.stringify([FLAGS, file, [...defines].sort()]));
  for (const name of readdirSync(folder).sort()) {
    if (/\.[ch]$/.test(name)) hash.update(name).update(readFileSync(join(folder, name)));
  }
  return hash.digest('hex').slice(0, 16);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  if (!hasClang()) {
    console.log('xdp: no clang here, so the XDP program is not built: relays use the userspace engine');
  } else {
    mkdirSync(dirname(SHIPPED), { recursive: true });
    writeFileSync(SHIPPED, compileXdp());
  }
}
