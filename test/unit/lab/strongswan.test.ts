import { describe, expect, it } from 'vitest';
import { parseAssociations } from '../../../infra/lab/strongswan.ts';

/** As swanctl 5.9.8 prints them: a daemon in the middle of renewing one child, and an association still without any. */
const LISTING = `carol: #3, ESTABLISHED, IKEv2, 8a1f3c0000000001_i* 00f3c00000000002_r
  local  'carol.test' @ 198.51.100.21[4500]
  remote 'peer.test' @ 198.51.100.51[4500]
  AES_CBC-128/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256/MODP_2048
  established 3s ago, rekeying in 13881s
  carol-net: #1, reqid 1, REKEYED, TUNNEL-in-UDP, ESP:AES_GCM_16-128
    installed 3s ago, rekeying in 3277s, expires in 3957s
    in  00e5fa00,   1780 bytes,    20 packets,     0s ago
    out c5a2df31,   1780 bytes,    20 packets,     0s ago
    local  10.50.3.2/32
    remote 10.60.0.2/32
  carol-net: #2, reqid 1, INSTALLED, TUNNEL-in-UDP, ESP:AES_GCM_16-128
    installed 0s ago, rekeying in 3300s, expires in 3960s
    in  00e5fa01,      0 bytes,     0 packets
    out c5a2df32,      0 bytes,     0 packets
    local  10.50.3.2/32
    remote 10.60.0.2/32
alice: #4, CONNECTING, IKEv2, 1111111111111111_i* 0000000000000000_r
  local  '%any' @ 198.51.100.21[500]
  remote '%any' @ 198.51.100.51[500]
`;

describe('the associations that swanctl lists', () => {
  it('come with their ports, SPIs and children', () => {
    const [carol, alice, ...rest] = parseAssociations(LISTING);
    expect(rest).toEqual([]);
    expect(carol).toMatchObject({
      name: 'carol',
      state: 'ESTABLISHED',
      initiatorSpi: '8a1f3c0000000001',
      responderSpi: '00f3c00000000002',
      localPort: 4500,
      remotePort: 4500,
    });
    expect(carol!.children).toEqual([
      { name: 'carol-net', state: 'REKEYED', udp: true, spiIn: 0x00e5_fa00, spiOut: 0xc5a2_df31 },
      { name: 'carol-net', state: 'INSTALLED', udp: true, spiIn: 0x00e5_fa01, spiOut: 0xc5a2_df32 },
    ]);
    expect(alice).toMatchObject({ state: 'CONNECTING', localPort: 500, children: [] });
  });

  it('are none in an empty listing', () => {
    expect(parseAssociations('')).toEqual([]);
  });
});
