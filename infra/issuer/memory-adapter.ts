import type { Adapter, AdapterFactory, AdapterPayload } from 'oidc-provider';

/** How many expired entries are looked for at each new one. */
const SWEEP = 16;

/** Keeps what the issuer has to remember (the ids of proofs and assertions it has seen) in memory, until it expires. */
export function createMemoryAdapters(nowMs: () => number = Date.now): AdapterFactory {
  const entries = new Map<string, { readonly payload: AdapterPayload; readonly expiresAtMs: number }>();
  const live = (key: string) => {
    const entry = entries.get(key);
    return entry !== undefined && entry.expiresAtMs > nowMs() ? entry.payload : undefined;
  };
  // The oldest entries come first, so a few looks each time keep the map from growing for ever.
  const sweep = () => {
    let looks = 0;
    for (const [key, { expiresAtMs }] of entries) {
      if (expiresAtMs <= nowMs()) entries.delete(key);
      looks += 1;
      if (looks === SWEEP) return;
    }
  };
  return (model): Adapter => ({
    async upsert(id, payload, expiresInS = 3_600) {
      sweep();
      entries.set(`${model}:${id}`, { payload, expiresAtMs: nowMs() + expiresInS * 1000 });
    },
    find: async (id) => live(`${model}:${id}`),
    findByUserCode: async () => undefined,
    findByUid: async () => undefined,
    async consume(id) {
      const payload = live(`${model}:${id}`);
      if (payload !== undefined) payload.consumed = Math.floor(nowMs() / 1000);
    },
    async destroy(id) {
      entries.delete(`${model}:${id}`);
    },
    // No grant of this issuer has a grant id: `client_credentials` only.
    async revokeByGrantId() {},
  });
}
