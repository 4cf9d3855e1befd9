/* What the ends know of the wire, written apart from the relay's own headers: a mistake in those is not repeated here. */
#ifndef MOORING_BENCH_WIRE_H
#define MOORING_BENCH_WIRE_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define ETHERNET_HEADER 14
#define IPV4_HEADER 20
#define UDP_HEADER 8
#define TUNNEL_HEADER 16
#define TUNNELLED (ETHERNET_HEADER + IPV4_HEADER + UDP_HEADER + TUNNEL_HEADER)
#define TYPE_DATA 1
#define TYPE_DATA_FULL 2
/* Octets behind an inner header that the tag of DATA covers. */
#define TAGGED_BEHIND 16
#define LONGEST 1500

#define LOAD64(at) (*(__u64 *)(at))
#define LOAD32(at) (*(__u32 *)(at))
#define LOAD16(at) (*(__u16 *)(at))
#define LOAD8(at) (*(__u8 *)(at))

/* Opaque: the compiler would count back from `end`, which the verifier does not follow. */
static __always_inline int is_there(void *at, __u32 octets, void *end)
{
	void *behind = at + octets;

	asm volatile("" : "+r"(behind));
	return behind <= end;
}

struct sip {
	__u64 a, b, c, d;
};

#define ROTATE(x, bits) ((x) << (bits) | (x) >> (64 - (bits)))

static __always_inline void sip_round(struct sip *s)
{
	s->a += s->b;
	s->c += s->d;
	s->b = ROTATE(s->b, 13) ^ s->a;
	s->d = ROTATE(s->d, 16) ^ s->c;
	s->a = ROTATE(s->a, 32);
	s->c += s->b;
	s->a += s->d;
	s->b = ROTATE(s->b, 17) ^ s->c;
	s->d = ROTATE(s->d, 21) ^ s->a;
	s->c = ROTATE(s->c, 32);
}

static __always_inline void sip_word(struct sip *s, __u64 word)
{
	s->d ^= word;
	sip_round(s);
	sip_round(s);
	s->a ^= word;
}

/*
 * SipHash-2-4 over the first 8 octets of a tunnel header and `length` octets of the frame from TUNNELLED: the tag. 0 when
 * they are not there.
 */
static __always_inline __u64 tag_of(struct xdp_md *context, const __u64 key[2], __u64 head, __u32 length)
{
	void *at = (void *)(long)context->data + TUNNELLED;
	void *end = (void *)(long)context->data_end;
	__u64 last = (__u64)(8 + length) << 56;
	__u32 words = length >> 3;
	struct sip s = {
		0x736f6d6570736575ULL ^ key[0],
		0x646f72616e646f6dULL ^ key[1],
		0x6c7967656e657261ULL ^ key[0],
		0x7465646279746573ULL ^ key[1],
	};

	sip_word(&s, head);
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < LONGEST / 8; i++) {
		if (i >= words)
			break;
		if (!is_there(at, 8, end))
			return 0;
		sip_word(&s, LOAD64(at));
		at += 8;
	}
	/* The lengths here are multiples of four. */
	if (length & 4) {
		if (!is_there(at, 4, end))
			return 0;
		last |= LOAD32(at);
	}
	sip_word(&s, last);
	s.c ^= 0xff;
	sip_round(&s);
	sip_round(&s);
	sip_round(&s);
	sip_round(&s);
	return s.a ^ s.b ^ s.c ^ s.d;
}

static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

#endif
