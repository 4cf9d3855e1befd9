/** Milliseconds on the process's monotonic clock; main thread and workers share it. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint() / 1000n) / 1000;
}
