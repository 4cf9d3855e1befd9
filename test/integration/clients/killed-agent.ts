/** An agent's life as a process, which kills itself behind its nth step. Waits for a line of input before it begins. */
import { readSync } from 'node:fs';
import { type FormName, live } from './killed-life.ts';

const [form, stateDir, deadly] = process.argv.slice(2) as [FormName, string, string];
readSync(0, new Uint8Array(1));
let steps = 0;
live(form, stateDir, () => {
  steps += 1;
  if (steps === Number(deadly)) process.kill(process.pid, 'SIGKILL');
});
