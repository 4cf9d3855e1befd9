/* The octet of DSCP and ECN on the way into and out of the tunnel: the arithmetic of tunnel/dscp-ecn.ts. */
#ifndef MOORING_DSCP_ECN_H
#define MOORING_DSCP_ECN_H

#include "maps.h"
#include "packet.h"

#define ECN 3

static __always_inline __u8 ingress_inner(const struct config *settings, __u8 inner)
{
	return settings->ingress_dscp_mode == DSCP_REWRITE ? settings->ingress_dscp << 2 | (inner & ECN) : inner;
}

static __always_inline __u8 ingress_outer(const struct config *settings, __u8 inner)
{
	__u8 dscp = settings->ingress_dscp_mode == DSCP_COPY ? inner >> 2 : settings->ingress_dscp;

	return dscp << 2 | (settings->ingress_ecn_mode == ECN_NORMAL ? inner & ECN : 0);
}

/* Inner Not-ECT under outer CE: congestion that the ends cannot hear of. */
static __always_inline int is_unheard(__u8 inner, __u8 outer)
{
	return (inner & ECN) == 0 && (outer & ECN) == 3;
}

static __always_inline __u8 egress_inner(const struct config *settings, __u8 inner, __u8 outer)
{
	__u8 mode = settings->egress_dscp_mode;
	__u8 dscp = mode == DSCP_COPY ? outer >> 2 : mode == DSCP_KEEP ? inner >> 2 : settings->egress_dscp;
	__u8 ecn = inner & ECN;

	/* RFC 6040 §4.2: an ECT inner takes CE; ECT(0) takes ECT(1) too */
	if (ecn != 0 && ((outer & ECN) == 3 || (ecn == 2 && (outer & ECN) == 1)))
		ecn = outer & ECN;
	return dscp << 2 | ecn;
}

/* One hop less and another class in the header at `at`; 0 when it is not there. The IPv4 checksum follows by difference
 * (RFC 1624), so a wrong one stays wrong. */
static __always_inline int forward_header(void *at, void *end, const struct packet *packet, __u8 class)
{
	if (packet->version == IPV4) {
		if (at + IPV4_HEADER > end)
			return 0;
		__u32 sum = (__u16)~LOAD16(at + 10);

		/* each changed word: its complement, then what it became; words as they are in memory */
		sum += (__u16)~LOAD16(at + 8);
		LOAD8(at + 8) = packet->ttl - 1;
		sum += LOAD16(at + 8);
		sum += (__u16)~LOAD16(at);
		LOAD8(at + 1) = class;
		sum += LOAD16(at);
		sum = (sum & 0xffff) + (sum >> 16);
		sum = (sum & 0xffff) + (sum >> 16);
		LOAD16(at + 10) = ~sum;
		return 1;
	}
	if (at + IPV6_HEADER > end)
		return 0;
	LOAD8(at + 7) = packet->ttl - 1;
	if (class != packet->class) {
		LOAD8(at) = 0x60 | class >> 4;
		LOAD8(at + 1) = (class & 15) << 4 | (LOAD8(at + 1) & 15);
	}
	return 1;
}

#endif
