import { type Logger, pino } from 'pino';

export type Log = Logger;

/**
 * The program's logger: one JSON line an event on standard error. What could hold a secret is cut out by name,
 * wherever it stands in a record.
 */
export function createLog(level: string, name: string): Log {
  return pino(
    {
      name,
      level,
      base: { name },
      redact: {
        paths: [
          'token',
          'proof',
          'root',
          'sealedRoot',
          'key',
          '*.token',
          '*.proof',
          '*.root',
          '*.sealedRoot',
          '*.key',
        ],
        censor: '[redacted]',
      },
    },
    pino.destination({ dest: 2, sync: true }),
  );
}
