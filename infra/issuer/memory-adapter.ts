import type { Adapter, AdapterFactory, AdapterPayload } from 'oidc-provider';

/** How many expired entries are looked for at each new one. */
const SWEEP = 16;

/** Keeps what the issuer has to remember (ids of proofs it has seen, people's sessions and grants) in memory, until it expires. */
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
  const find = (model: string, fits: (payload: AdapterPayload) => boolean) => {
    for (const key of entries.keys()) {
      const payload = key.startsWith(`${model}:`) ? live(key) : undefined;
      if (payload !== undefined && fits(payload)) return payload;
    }
    return undefined;
  };
  return (model): Adapter => ({
    async upsert(id, payload, expiresInS = 3_600) {
      sweep();
      entries.set(`${model}:${id}`, { payload, expiresAtMs: nowMs() + expiresInS * 1000 });
    },
    find: async (id) => live(`${model}:${id}`),
    findByUserCode: async (userCode) => find(model, (payload) => payload.userCode === userCode),
    findByUid: async (uid) => find(model, (payload) => payload.uid === uid),
    async consume(id) {
      const payload = live(`${model}:${id}`);
      if (payload !== undefined) payload.consumed = Math.floor(nowMs() / 1000);
    },
    async destroy(id) {
      entries.delete(`${model}:${id}`);
    },
    async revokeByGrantId(grantId) {
      for (const [key, { payload }] of entries) if (payload.grantId === grantId) entries.delete(key);
    },
  });
}
