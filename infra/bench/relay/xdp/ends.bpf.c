/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The ends of the closed loop: what arrives is turned round and goes back, so a few hundred packets circle through the
 * relay as fast as it lets them. And the least relay there can be, which the others are compared with.
 */
#include "wire.h"

/* How the loop runs. One element. */
struct control {
	__u64 until_ns; /* of the monotonic clock: after that nothing is turned round, whatever became of the benchmark */
	__u32 tunnel_port;
	__u32 leases; /* above 1: every packet goes on to another lease, drawn by lot */
	__u32 first_address; /* of the leased ones, in host order */
	__u32 pad;
};

/* A device's session, by session index. */
struct end_session {
	__u64 key[2]; /* of DATA to the relay */
	__u32 sequence;
	__u32 phase;
	__u32 first_port; /* it is reached at this port and the one above, and at no other */
	__u32 wrong; /* datagrams that came to another */
};

enum counted {
	TURNED,
	WRONG_PATH,
	STRANGE, /* not of this loop: left to the kernel */
	REFUSED, /* arrived after the end */
	COUNTED,
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct control);
} control SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct end_session);
} devices SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTED);
	__type(key, __u32);
	__type(value, __u64);
} counted SEC(".maps");

/* How long stamped packets were under way, by traffic: linear up to 64 units of 128 ns, then 32 steps an octave. */
#define DELAY_UNIT_SHIFT 7
#define DELAY_OCTAVES 19
#define DELAY_STEPS (64 + DELAY_OCTAVES * 32)

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 2 * DELAY_STEPS);
	__type(key, __u32);
	__type(value, __u64);
} delays SEC(".maps");

/* Emits what no map mentions into BTF. */
struct bench_names {
	enum counted counted;
};

const volatile struct bench_names bench_names SEC(".rodata") = {};

/* The leases lie in rows: 256 on an address, each with 8 ports and 256 SPIs (see leases.ts). */
#define ROW_SHIFT 8
#define FIRST_PORT 16384
#define FIRST_SPI 65536

static __always_inline void add(enum counted what)
{
	__u32 key = what;
	__u64 *value = bpf_map_lookup_elem(&counted, &key);

	if (value)
		*value += 1;
}

static __always_inline struct control *running(void)
{
	__u32 zero = 0;
	struct control *settings = bpf_map_lookup_elem(&control, &zero);

	if (!settings || bpf_ktime_get_ns() >= settings->until_ns)
		return 0;
	return settings;
}

static __always_inline void swap_ethernet(void *at)
{
	__u32 a = LOAD32(at);
	__u16 b = LOAD16(at + 4);

	LOAD32(at) = LOAD32(at + 6);
	LOAD16(at + 4) = LOAD16(at + 10);
	LOAD32(at + 6) = a;
	LOAD16(at + 10) = b;
}

static __always_inline void swap32(void *a, void *b)
{
	__u32 value = LOAD32(a);

	LOAD32(a) = LOAD32(b);
	LOAD32(b) = value;
}

/* A whole IPv4 header's checksum, with a fresh time to live. */
static __always_inline void renew(void *ip)
{
	LOAD8(ip + 8) = 64;
	LOAD16(ip + 10) = 0;
	LOAD16(ip + 10) = fold((__u64)LOAD32(ip) + LOAD32(ip + 4) + LOAD32(ip + 8) + LOAD32(ip + 12) + LOAD32(ip + 16));
}

static __always_inline int turned(void)
{
	add(TURNED);
	return XDP_TX;
}

static __always_inline int strange(void)
{
	add(STRANGE);
	return XDP_PASS;
}

/* Turns ESP and UDP round by their outermost headers: the peer of any relay, and the device of those without a tunnel. */
SEC("xdp")
int turn_plain(struct xdp_md *context)
{
	void *at = (void *)(long)context->data;
	void *end = (void *)(long)context->data_end;
	void *ip = at + ETHERNET_HEADER;
	void *payload = ip + IPV4_HEADER;

	if (payload + 8 > end || LOAD16(at + 12) != bpf_htons(ETH_P_IP))
		return strange();
	__u8 protocol = LOAD8(ip + 9);

	if (protocol != IPPROTO_ESP && protocol != IPPROTO_UDP)
		return strange();
	struct control *settings = running();

	if (!settings) {
		add(REFUSED);
		return XDP_DROP;
	}
	swap_ethernet(at);
	swap32(ip + 12, ip + 16);
	if (protocol == IPPROTO_UDP) {
		__u16 port = LOAD16(payload);

		LOAD16(payload) = LOAD16(payload + 2);
		LOAD16(payload + 2) = port;
		LOAD16(payload + 6) = 0;
	}
	if (settings->leases > 1) {
		__u32 lease = ((__u64)bpf_get_prandom_u32() * settings->leases) >> 32;
		__u32 place = lease & ((1 << ROW_SHIFT) - 1);

		LOAD32(ip + 16) = bpf_htonl(settings->first_address + (lease >> ROW_SHIFT));
		if (protocol == IPPROTO_UDP)
			LOAD16(payload + 2) = bpf_htons(FIRST_PORT + place * 8);
		else
			LOAD32(payload) = bpf_htonl(FIRST_SPI + place * 256);
	}
	renew(ip);
	return turned();
}

/* A device of the tunnel: what came in comes out again, numbered and tagged anew. */
SEC("xdp")
int turn_device(struct xdp_md *context)
{
	void *at = (void *)(long)context->data;
	void *end = (void *)(long)context->data_end;
	void *ip = at + ETHERNET_HEADER;
	void *udp = ip + IPV4_HEADER;
	void *tunnel = udp + UDP_HEADER;
	void *inner = tunnel + TUNNEL_HEADER;

	if (inner + IPV4_HEADER + TAGGED_BEHIND > end || LOAD16(at + 12) != bpf_htons(ETH_P_IP) ||
	    LOAD8(ip + 9) != IPPROTO_UDP)
		return strange();
	struct control *settings = running();
	__u8 type = LOAD8(tunnel) >> 4;

	if (!settings) {
		add(REFUSED);
		return XDP_DROP;
	}
	if (LOAD16(udp) != bpf_htons(settings->tunnel_port) || (type != TYPE_DATA && type != TYPE_DATA_FULL))
		return strange();
	__u32 index = bpf_ntohl(LOAD32(tunnel)) & 0xffffff;
	struct end_session *session = bpf_map_lookup_elem(&devices, &index);

	if (!session)
		return strange();
	if ((__u32)bpf_ntohs(LOAD16(udp + 2)) - session->first_port > 1) {
		__sync_fetch_and_add(&session->wrong, 1);
		add(WRONG_PATH);
	}
	swap_ethernet(at);
	swap32(ip + 12, ip + 16);
	renew(ip);
	__u16 port = LOAD16(udp);

	LOAD16(udp) = LOAD16(udp + 2);
	LOAD16(udp + 2) = port;
	LOAD16(udp + 6) = 0;
	swap32(inner + 12, inner + 16);
	renew(inner);
	if (LOAD8(inner + 9) == IPPROTO_UDP) {
		__u16 inner_port = LOAD16(inner + IPV4_HEADER);

		LOAD16(inner + IPV4_HEADER) = LOAD16(inner + IPV4_HEADER + 2);
		LOAD16(inner + IPV4_HEADER + 2) = inner_port;
	}
	__u32 sequence = __sync_fetch_and_add(&session->sequence, 1) + 1;
	__u64 head = (__u64)bpf_htonl(sequence) << 32 |
		     bpf_htonl((__u32)(type << 4 | (session->phase & 3) << 2) << 24 | index);
	__u32 covered = type == TYPE_DATA ? IPV4_HEADER + TAGGED_BEHIND : bpf_ntohs(LOAD16(inner + 2));
	__u64 tag = tag_of(context, session->key, head, covered);

	if (!tag)
		return XDP_DROP;
	LOAD64(tunnel) = head;
	LOAD64(tunnel + 8) = tag;
	return turned();
}

/*
 * A device that takes stamped packets out of the tunnel, ESP as the first traffic and UDP as the second, and notes how long
 * they took from the stamp behind the inner header of 8 octets. Everything else is the kernel's.
 */
SEC("xdp")
int note_delay(struct xdp_md *context)
{
	void *at = (void *)(long)context->data;
	void *end = (void *)(long)context->data_end;
	void *inner = at + TUNNELLED;
	__u64 now = bpf_ktime_get_ns();
	__u32 octave = 0;

	if (inner + IPV4_HEADER + 16 > end || LOAD16(at + 12) != bpf_htons(ETH_P_IP) ||
	    LOAD8(at + ETHERNET_HEADER + 9) != IPPROTO_UDP)
		return XDP_PASS;
	__u8 type = LOAD8(inner - TUNNEL_HEADER) >> 4;

	if (type != TYPE_DATA && type != TYPE_DATA_FULL)
		return XDP_PASS;
	__u64 units = (now - LOAD64(inner + IPV4_HEADER + 8)) >> DELAY_UNIT_SHIFT;

	for (int i = 0; i < DELAY_OCTAVES; i++) {
		if (units < 64)
			break;
		units >>= 1;
		octave += 1;
	}
	if (units > 63)
		units = 63;
	__u32 step = (octave == 0 ? units : 32 + octave * 32 + units - 32) +
		     (LOAD8(inner + 9) == IPPROTO_ESP ? 0 : DELAY_STEPS);
	__u64 *count = bpf_map_lookup_elem(&delays, &step);

	if (count)
		__sync_fetch_and_add(count, 1);
	return XDP_DROP;
}

/* The least relay: the kernel's route, the frame's addresses, out. */
SEC("xdp")
int bare(struct xdp_md *context)
{
	void *at = (void *)(long)context->data;
	void *end = (void *)(long)context->data_end;
	void *ip = at + ETHERNET_HEADER;
	struct bpf_fib_lookup hop = {};

	if (ip + IPV4_HEADER > end || LOAD16(at + 12) != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	hop.family = 2;
	hop.ipv4_src = LOAD32(ip + 12);
	hop.ipv4_dst = LOAD32(ip + 16);
	hop.tot_len = bpf_ntohs(LOAD16(ip + 2));
	hop.ifindex = context->ingress_ifindex;
	if (bpf_fib_lookup(context, &hop, sizeof(hop), 0) != BPF_FIB_LKUP_RET_SUCCESS)
		return XDP_PASS;
	__builtin_memcpy(at, hop.dmac, 6);
	__builtin_memcpy(at + 6, hop.smac, 6);
	add(TURNED);
	return bpf_redirect(hop.ifindex, 0);
}

/* Leaves everything to the kernel: an end of veth takes what XDP sends only when a program is on it. */
SEC("xdp")
int leave(struct xdp_md *context)
{
	(void)context;
	return XDP_PASS;
}

char _license[] SEC("license") = "GPL";
