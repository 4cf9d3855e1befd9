/** The longest that a relay may claim an anchor for, milliseconds: what the registry waits for after a fail-over follows from it. */
export const LONGEST_CLAIM_MS = 10_000;
