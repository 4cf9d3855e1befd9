/** What the lab's tests need of the machine; a skip says what is missing. */
import { umlMissing } from '../../../infra/lab/uml.ts';

function announce(what: string, reason: string | undefined): boolean {
  if (reason) console.warn(`skipped: ${what}: ${reason}`);
  return reason !== undefined;
}

export const withoutRoot = announce(
  'labs in network namespaces',
  process.getuid?.() === 0 ? undefined : 'needs root',
);

export const withoutUml = announce('kernel IPsec in user-mode-linux', umlMissing());
