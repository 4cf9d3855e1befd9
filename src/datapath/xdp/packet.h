/* Reading packets. Only what can be decided without doubt is read further: everything else is the slow path's. */
#ifndef MOORING_PACKET_H
#define MOORING_PACKET_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define IPV4 4
#define IPV6 6
#define IPV4_HEADER 20
#define IPV6_HEADER 40
#define UDP_HEADER 8
#define ETHERNET_HEADER 14
#define FRAGMENT 0x3fff /* more fragments, or an offset */

/* Octets of the header of a version: a constant wherever `version` is one. */
#define HEADER_OF(version) ((version) == IPV4 ? IPV4_HEADER : IPV6_HEADER)

/* Wide loads from and to packets, whose fields have no alignment to speak of. */
#define LOAD64(at) (*(__u64 *)(at))
#define LOAD32(at) (*(__u32 *)(at))
#define LOAD16(at) (*(__u16 *)(at))
#define LOAD8(at) (*(__u8 *)(at))

/* Whether `octets` from `at` are before `end`; opaque, else the compiler would count back from `end`, which the verifier
 * does not follow. */
static __always_inline int is_there(void *at, __u32 octets, void *end)
{
	void *behind = at + octets;

	asm volatile("" : "+r"(behind));
	return behind <= end;
}

struct address {
	__u64 high; /* as in memory */
	__u64 low;
};

struct packet {
	struct address source;
	struct address destination;
	__u16 length; /* of the whole packet by its own account, in host order */
	__u8 protocol;
	__u8 ttl;
	__u8 class; /* DSCP and ECN */
	__u8 version;
	__u8 header; /* octets of the IP header */
};

enum form {
	FORM_PLAIN,
	FORM_SLOW, /* options, extension headers, fragments */
	FORM_BAD, /* not one whole packet */
};

static __always_inline int frame_length(const struct xdp_md *context)
{
	long length = (void *)(long)context->data_end - (void *)(long)context->data;

	/* else it would be computed in 32 bits, which pointers do not have */
	asm volatile("" : "+r"(length));
	return length;
}

static __always_inline struct address mapped(__u32 ipv4)
{
	return (struct address){ .high = 0, .low = (__u64)ipv4 << 32 | 0xffff0000 };
}

static __always_inline int same_address(const struct address *a, const struct address *b)
{
	return a->high == b->high && a->low == b->low;
}

/*
 * Reads the packet of `version` at `at`. FORM_BAD also when less than a header is there; otherwise `length` may be more or
 * less than what is there: the caller compares.
 */
static __always_inline enum form read_packet(void *at, void *end, int version, struct packet *into)
{
	into->version = version;
	into->header = HEADER_OF(version);
	if (at + HEADER_OF(version) > end)
		return FORM_BAD;
	if (version == IPV4) {
		__u8 first = LOAD8(at);

		if (first >> 4 != 4 || first < 0x45)
			return FORM_BAD;
		into->length = bpf_ntohs(LOAD16(at + 2));
		into->class = LOAD8(at + 1);
		into->ttl = LOAD8(at + 8);
		into->protocol = LOAD8(at + 9);
		into->source = mapped(LOAD32(at + 12));
		into->destination = mapped(LOAD32(at + 16));
		if (into->length < (first & 15) * 4)
			return FORM_BAD;
		return first == 0x45 && (LOAD16(at + 6) & bpf_htons(FRAGMENT)) == 0 ? FORM_PLAIN : FORM_SLOW;
	}
	if (LOAD8(at) >> 4 != 6)
		return FORM_BAD;
	if (bpf_ntohs(LOAD16(at + 4)) > 0xffff - IPV6_HEADER)
		return FORM_BAD; /* longer than a frame, and than `length` can say */
	into->length = bpf_ntohs(LOAD16(at + 4)) + IPV6_HEADER;
	into->class = bpf_ntohs(LOAD16(at)) >> 4;
	into->protocol = LOAD8(at + 6);
	into->ttl = LOAD8(at + 7);
	into->source = (struct address){ LOAD64(at + 8), LOAD64(at + 16) };
	into->destination = (struct address){ LOAD64(at + 24), LOAD64(at + 32) };
	switch (into->protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_ESP:
	case IPPROTO_AH:
		return FORM_PLAIN;
	default:
		return FORM_SLOW;
	}
}

/* False for destinations that never leave a host or a link (the routable() of decision/uplink.ts). */
static __always_inline int is_routable(const struct address *to, int version)
{
	if (version == IPV4) {
		__u32 ipv4 = bpf_ntohl(to->low >> 32);
		__u32 first = ipv4 >> 24;

		return first != 0 && first != 127 && first < 224 && ipv4 >> 16 != 0xa9fe;
	}
	__u16 head = bpf_ntohs((__u16)to->high);

	if (head >> 8 == 0xff || (head & 0xffc0) == 0xfe80)
		return 0;
	/* ::/96 and ::ffff:0:0/96 */
	if (to->high != 0 || (__u16)to->low != 0)
		return 1;
	__u16 tail = to->low >> 16;

	return tail != 0 && tail != 0xffff;
}

#endif
