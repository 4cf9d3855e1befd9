/* Putting an inner packet into a datagram of the tunnel, and taking it out. */
#ifndef MOORING_ENCAP_H
#define MOORING_ENCAP_H

#include "dscp_ecn.h"
#include "fib.h"
#include "packet.h"
#include "siphash.h"

#define TUNNEL_HEADER 16
#define TYPE_DATA 1
#define TYPE_DATA_FULL 2
#define TYPE_CONTROL 3
#define LANE_FAST 2
#define RESERVED 1
#define TAGGED_BEHIND 16
#define OUTER_TTL 64

static __always_inline int is_type(__u8 type)
{
	return type >= TYPE_DATA && type <= TYPE_CONTROL;
}

#define OUTER(version) (HEADER_OF(version) + UDP_HEADER + TUNNEL_HEADER)

/* Whether the short tag covers a plain packet: the association protects the rest (src/tunnel/classify.ts). */
static __always_inline int is_short(const struct packet *inner)
{
	return (inner->protocol == IPPROTO_ESP || inner->protocol == IPPROTO_AH) &&
	       inner->length >= inner->header + TAGGED_BEHIND;
}

/* The first 8 octets of a tunnel header as they are in memory. */
static __always_inline __u64 tunnel_head(__u8 type, __u32 key_number, __u32 index, __u32 sequence)
{
	__u32 first = (__u32)(type << 4 | (key_number & 3) << 2 | LANE_FAST) << 24 | (index & 0xffffff);

	return (__u64)bpf_htonl(sequence) << 32 | bpf_htonl(first);
}

static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

#define LARGEST_CHUNK 512

/*
 * The checksum (ready for the wire) over `length` octets of the frame from `offset`, begun with `sum`; below 0 when it
 * could not be made. Global for the reason of full_tag().
 */
__noinline int checksum(struct xdp_md *context, __u32 offset, __u32 length, __u32 sum)
{
	void *end = (void *)(long)context->data_end;
	void *at = (void *)(long)context->data;
	__s64 part = sum;

	if (offset > 255 || length > MOST_COVERED + OUTER(IPV6))
		return -1;
	at += offset;
	for (int i = 0; i < 4; i++) {
		if (length < LARGEST_CHUNK)
			break;
		if (!is_there(at, LARGEST_CHUNK, end))
			return -1;
		part = bpf_csum_diff(0, 0, at, LARGEST_CHUNK, part);
		at += LARGEST_CHUNK;
		length -= LARGEST_CHUNK;
	}
#pragma unroll
	for (int chunk = LARGEST_CHUNK / 2; chunk >= 4; chunk >>= 1) {
		if (length & chunk) {
			if (!is_there(at, chunk, end))
				return -1;
			part = bpf_csum_diff(0, 0, at, chunk, part);
			at += chunk;
		}
	}
	__u64 rest = 0;

	if (length & 2) {
		if (!is_there(at, 2, end))
			return -1;
		rest = LOAD16(at);
		at += 2;
	}
	if (length & 1) {
		if (!is_there(at, 1, end))
			return -1;
		rest += LOAD8(at);
	}
	return fold((__u32)part + rest);
}

/* Writes the outer IP header at `at`; of IPv4 with its checksum. */
static __always_inline void write_outer(void *at, int version, const struct address *from, const struct address *to,
					__u8 class, __u16 length, __u16 id)
{
	if (version == IPV4) {
		__u64 sum;

		LOAD32(at) = bpf_htonl(0x45000000 | (__u32)class << 16 | length);
		LOAD32(at + 4) = bpf_htonl((__u32)id << 16);
		LOAD32(at + 8) = bpf_htonl(OUTER_TTL << 24 | IPPROTO_UDP << 16);
		LOAD32(at + 12) = from->low >> 32;
		LOAD32(at + 16) = to->low >> 32;
		sum = (__u64)LOAD32(at) + LOAD32(at + 4) + LOAD32(at + 8) + LOAD32(at + 12) + LOAD32(at + 16);
		LOAD16(at + 10) = fold(sum);
		return;
	}
	LOAD32(at) = bpf_htonl(6 << 28 | (__u32)class << 20);
	LOAD32(at + 4) = bpf_htonl((__u32)(length - IPV6_HEADER) << 16 | IPPROTO_UDP << 8 | OUTER_TTL);
	LOAD64(at + 8) = from->high;
	LOAD64(at + 16) = from->low;
	LOAD64(at + 24) = to->high;
	LOAD64(at + 32) = to->low;
}

/* UDP and tunnel headers at `at`; the checksum zero. */
static __always_inline void write_tunnel(void *at, __u16 from, __u16 to, __u16 datagram, const struct tagging *work)
{
	LOAD32(at) = bpf_htonl((__u32)from << 16 | to);
	LOAD32(at + 4) = bpf_htonl((__u32)datagram << 16);
	LOAD64(at + UDP_HEADER) = work->head;
	LOAD64(at + UDP_HEADER + 8) = work->tag;
}

#endif
