/**
 * DPoP proofs whose signature this process has verified by the key in their own header. That says nothing but what anybody
 * can work out from the proof alone, so whoever needs it again need not: a relay checks the proof that the door of the same
 * process has just checked.
 */

export interface KnownProof {
  /** RFC 7638 thumbprint of the key that signed it. */
  readonly thumbprint: string;
  /** Its claim `seal`. */
  readonly seal: unknown;
}

/** Proofs kept, the newest: some 2 KiB each. */
const KEPT = 4_096;

const known = new Map<string, KnownProof>();

/** Only after its signature has been verified. */
export function rememberProof(proof: string, facts: KnownProof): void {
  known.delete(proof);
  known.set(proof, facts);
  if (known.size <= KEPT) return;
  const [oldest] = known.keys();
  known.delete(oldest!);
}

export function recallProof(proof: string): KnownProof | undefined {
  return known.get(proof);
}
