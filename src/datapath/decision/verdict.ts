import type { RsipErrorNumber } from '../../protocol/errors.ts';

/** Why a packet from the public side is not delivered: the names under which it is counted. */
export const DOWNLINK_DROPS = {
  malformed: 'not exactly one well-formed IPv4 or IPv6 packet',
  'unleased-address': 'nobody leases the destination address',
  'unleased-port': 'nobody leases the destination port of the shared address',
  'unleased-spi': 'nobody leases the SPI of the shared address',
  expired: 'the lease is over',
  fragment: 'a later fragment to a shared address: it says neither port nor SPI',
  'icmp-request': 'an echo request to a shared address that is not fit to be answered',
  'ike-unmatched': 'IKE whose SPI or cookie no device on the shared address leases or has used',
  'undeclared-remote': 'the lease is for another remote',
  'nat-keepalive': 'keeps a mapping alive on its way, and says nothing (RFC 3948 §2.3)',
  'icmp-unasked': 'an echo reply that no device on the shared address asked for',
  'icmp-unmatched': 'an ICMP error that quotes nothing a device on the shared address sent',
  'icmp-other': 'an ICMP message that never crosses a relay',
  'other-protocol': 'a protocol that a shared address does not carry',
} as const;
export type DownlinkDrop = keyof typeof DOWNLINK_DROPS;

/**
 * Why a packet that somebody leases goes no further, in the order of the checks: past the decision, before anything is
 * changed in it. Counted under the direction; the device is told nothing.
 */
export const PASSAGE_DROPS = {
  'anchor-deadline': 'this relay may not forward for the anchor any more',
  'congestion-unheard':
    'uplink: congestion was marked on a packet whose ends do not know ECN (RFC 6040 §4.2)',
  policed: 'the session is faster than it may be',
} as const;

/** What the relay answers itself in place of a shared address. */
export const ECHO = 'echo';

/**
 * Why a packet from a device is not forwarded, and the RSIP error that the device is told (RFC 3103 §10.4,
 * appendix A; RFC 3104 appendix B); 0 where it is told nothing.
 */
export const UPLINK_DROPS = {
  malformed: 0,
  'own-endpoint': 314,
  'relay-host': 314,
  'unroutable-destination': 314,
  'unleased-address': 312,
  'unleased-port': 313,
  expired: 312,
  fragment: 313,
  'remote-address': 314,
  'remote-port': 315,
  'ip-id-taken': 0,
  'ipsec-unallowed': 401,
  'ike-malformed': 313,
  'ike-cookie-taken': 313,
  'icmp-unmatched': 313,
  'icmp-unallowed': 313,
  'icmp-id-taken': 313,
  'icmp-quota': 313,
  'other-protocol': 313,
} as const satisfies Record<string, RsipErrorNumber | 0>;
export type UplinkDrop = keyof typeof UPLINK_DROPS;
