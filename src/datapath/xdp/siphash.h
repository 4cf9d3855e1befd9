/* SipHash-2-4 with a 64-bit result (Aumasson and Bernstein, 2012), for machines of little-endian order. */
#ifndef MOORING_SIPHASH_H
#define MOORING_SIPHASH_H

#include <linux/bpf.h>

#include "packet.h"

struct sip {
	__u64 v0, v1, v2, v3;
};

#define ROTATE(x, bits) ((x) << (bits) | (x) >> (64 - (bits)))

static __always_inline void sip_round(struct sip *s)
{
	s->v0 += s->v1;
	s->v1 = ROTATE(s->v1, 13);
	s->v1 ^= s->v0;
	s->v0 = ROTATE(s->v0, 32);
	s->v2 += s->v3;
	s->v3 = ROTATE(s->v3, 16);
	s->v3 ^= s->v2;
	s->v0 += s->v3;
	s->v3 = ROTATE(s->v3, 21);
	s->v3 ^= s->v0;
	s->v2 += s->v1;
	s->v1 = ROTATE(s->v1, 17);
	s->v1 ^= s->v2;
	s->v2 = ROTATE(s->v2, 32);
}

static __always_inline void sip_start(struct sip *s, const __u64 key[2])
{
	s->v0 = 0x736f6d6570736575ULL ^ key[0];
	s->v1 = 0x646f72616e646f6dULL ^ key[1];
	s->v2 = 0x6c7967656e657261ULL ^ key[0];
	s->v3 = 0x7465646279746573ULL ^ key[1];
}

static __always_inline void sip_word(struct sip *s, __u64 word)
{
	s->v3 ^= word;
	sip_round(s);
	sip_round(s);
	s->v0 ^= word;
}

/* `last`: the octets that fill no word, below the length of all in the highest octet. */
static __always_inline __u64 sip_end(struct sip *s, __u64 last)
{
	sip_word(s, last);
	s->v2 ^= 0xff;
	sip_round(s);
	sip_round(s);
	sip_round(s);
	sip_round(s);
	return s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

/* Octets of inner packet that the full tag can cover here. */
#define MOST_COVERED 1536

/* What a tag is made of beside the packet. */
struct tagging {
	__u64 key[2];
	__u64 head; /* first 8 octets of the tunnel header */
	__u64 tag; /* out */
};

/* The tag of a DATA datagram: tunnel header, inner header, 16 octets behind it, which the caller has checked to be there. */
static __noinline __u64 short_tag(const struct tagging *work, void *inner, int version)
{
	struct sip s;

	sip_start(&s, work->key);
	sip_word(&s, work->head);
	sip_word(&s, LOAD64(inner));
	sip_word(&s, LOAD64(inner + 8));
	sip_word(&s, LOAD64(inner + 16));
	sip_word(&s, LOAD64(inner + 24));
	if (version == IPV4)
		return sip_end(&s, LOAD32(inner + 32) | 44ULL << 56);
	sip_word(&s, LOAD64(inner + 32));
	sip_word(&s, LOAD64(inner + 40));
	sip_word(&s, LOAD64(inner + 48));
	return sip_end(&s, 64ULL << 56);
}

/*
 * The tag over `length` octets (at most MOST_COVERED) of the frame from `offset` (at most 255): of CONTROL and DATA-FULL.
 * 0 when it could be made. A global function, so that it is verified once and not for every path to it.
 */
__noinline int full_tag(struct xdp_md *context, struct tagging *work, __u32 offset, __u32 length)
{
	void *end = (void *)(long)context->data_end;
	void *at = (void *)(long)context->data;
	struct sip s;
	__u64 last;
	__u32 words;

	if (!work || offset > 255 || length > MOST_COVERED)
		return -1;
	at += offset;
	sip_start(&s, work->key);
	sip_word(&s, work->head);
	words = length >> 3;
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < MOST_COVERED / 8; i++) {
		if (i >= words)
			break;
		if (!is_there(at, 8, end))
			return -1;
		sip_word(&s, LOAD64(at));
		at += 8;
	}
	last = (__u64)(8 + length) << 56;
	if (length & 4) {
		if (!is_there(at, 4, end))
			return -1;
		last |= LOAD32(at);
		at += 4;
	}
	if (length & 2) {
		if (!is_there(at, 2, end))
			return -1;
		last |= (__u64)LOAD16(at) << ((length & 4) * 8);
		at += 2;
	}
	if (length & 1) {
		if (!is_there(at, 1, end))
			return -1;
		last |= (__u64)LOAD8(at) << ((length & 6) * 8);
	}
	work->tag = sip_end(&s, last);
	return 0;
}

#endif
