/** Address space of anchors of 4,096 addresses each. */

export const PER_ANCHOR = 4_096;

/** 10.0.0.0/8 in pieces, 11.0.0.0/8 behind it. */
export function prefixOf(anchor: number): string {
  return `${10 + (anchor >> 12)}.${(anchor >> 4) & 0xff}.${(anchor & 0x0f) << 4}.0/20`;
}

export function endpointOf(anchor: number): string {
  return `198.18.${anchor >> 8}.${anchor & 0xff}`;
}
