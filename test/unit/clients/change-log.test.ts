import { appendFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ChangeLog } from '../../../clients/laptop/change-log.ts';
import { StateDir } from '../../../clients/laptop/state-dir.ts';
import type { System, SystemChange } from '../../../clients/laptop/system-change.ts';

const DEVICE: SystemChange = { kind: 'tun', name: 'moor0', mtu: 1280, forwarding: false };
const ADDRESS: SystemChange = { kind: 'address', device: 'moor0', prefix: '198.51.100.77/32' };
const idle: System = { exists: () => false, make() {}, unmake() {} };

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'mooring-log-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

test('a change that was not written to its end was not begun, and those after it are not lost', () => {
  const state = new StateDir(dir);
  new ChangeLog(state, idle).become([DEVICE]);
  appendFileSync(state.file('changes.jsonl'), '{"kind":"addr');
  const next = new ChangeLog(state, idle);
  expect(next.made).toEqual([DEVICE]);
  next.become([DEVICE, ADDRESS]);
  expect(new ChangeLog(state, idle).made).toEqual([DEVICE, ADDRESS]);
});
