import type { Lease } from '../../src/protocol/lease.ts';

/**
 * What strongSwan's IKE daemon is to draw its SPIs from, as a file that `strongswan.conf` includes: those of ESP and AH
 * within the leased block, those of IKE with its leading octets (RFC 3104 sections 2 and 4.1). A whole address needs
 * nothing of it.
 */
export function charonSettings({ id, address, spis, ikeSpis }: Lease): string {
  const lines: string[] = [];
  if (spis !== null) {
    // Both ends belong to the range.
    lines.push(
      `spi_min = 0x${spis.first.toString(16)}`,
      `spi_max = 0x${(spis.first + spis.count - 1).toString(16)}`,
    );
  }
  if (ikeSpis != null) {
    const mask = (0x1_0000_0000 - ikeSpis.count).toString(16).padStart(8, '0');
    lines.push(
      `spi_label = 0x${ikeSpis.first.toString(16).padStart(8, '0')}00000000`,
      `spi_mask = 0x${mask}00000000`,
    );
  }
  const head = `# Lease ${id} of ${address}; written anew with every lease.\n`;
  return lines.length === 0 ? head : `${head}charon {\n${lines.map((line) => `  ${line}\n`).join('')}}\n`;
}
