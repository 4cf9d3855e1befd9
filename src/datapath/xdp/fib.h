/* Where a packet leaves: the kernel's own routes and neighbours. What they cannot say at once, the slow path finds out. */
#ifndef MOORING_FIB_H
#define MOORING_FIB_H

#include "maps.h"
#include "packet.h"

#define AF_INET 2
#define AF_INET6 10

/* The port that an interface is; 0 when it is none. */
static __always_inline const struct port *port_of(const struct config *settings, __u32 ifindex)
{
#pragma unroll
	for (int i = 0; i < PORTS; i++) {
		const struct port *port = &settings->ports[i];

		if (port->ifindex == ifindex)
			return port;
		if (port->ifindex == 0)
			return 0;
	}
	return 0;
}

/* Routes and neighbours cost a third of all that is done for a packet, and hardly ever change from one packet of a flow to
 * the next. How long what the kernel said is taken for true: a route or a neighbour that changes is noticed this much later. */
#define HOP_KEPT_NS 10000000ULL

/* The places are the CPU's own, so nothing here is ever half written. */
#define HOPS 1024

struct hop {
	struct address from;
	struct address to;
	__u64 until_ns;
	__u32 ingress;
	__u8 version;
	__u8 class;
	__u8 protocol;
	__u8 pad;
	/* Of the index, when it said last that the destination is nobody's here; 0: not asked. */
	__u32 generation;
	/* what the kernel said */
	__u32 ifindex;
	__u16 mtu;
	__u8 to_mac[6];
	__u8 from_mac[6];
	__u8 end[6];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HOPS);
	__type(key, __u32);
	__type(value, struct hop);
} hops SEC(".maps");

/* Asks the kernel where a packet of `length` octets goes that `hop` describes. 0: nowhere that the program can send it. */
static __noinline int ask_kernel(struct xdp_md *context, const struct config *settings, struct hop *hop, __u32 length)
{
	struct bpf_fib_lookup fib = {};

	hop->until_ns = 0;
	fib.l4_protocol = hop->protocol;
	fib.tot_len = length;
	fib.ifindex = context->ingress_ifindex;
	if (hop->version == IPV4) {
		fib.family = AF_INET;
		fib.tos = hop->class;
		fib.ipv4_src = hop->from.low >> 32;
		fib.ipv4_dst = hop->to.low >> 32;
	} else {
		fib.family = AF_INET6;
		fib.flowinfo = bpf_htonl((__u32)hop->class << 20);
		((__u64 *)fib.ipv6_src)[0] = hop->from.high;
		((__u64 *)fib.ipv6_src)[1] = hop->from.low;
		((__u64 *)fib.ipv6_dst)[0] = hop->to.high;
		((__u64 *)fib.ipv6_dst)[1] = hop->to.low;
	}
	if (bpf_fib_lookup(context, &fib, sizeof(fib), 0) != BPF_FIB_LKUP_RET_SUCCESS)
		return 0;
	if (fib.ifindex != context->ingress_ifindex && !port_of(settings, fib.ifindex))
		return 0;
	hop->ifindex = fib.ifindex;
	/* the link's MTU, or on kernels that do not say it the length that was asked for */
	hop->mtu = fib.tot_len;
	__builtin_memcpy(hop->to_mac, fib.dmac, 6);
	__builtin_memcpy(hop->from_mac, fib.smac, 6);
	return 1;
}

static __always_inline struct hop *hop_place(const struct address *from, const struct address *to)
{
	__u64 mixed = (to->low ^ to->high ^ (from->low >> 7) ^ (from->high << 9)) * 0x9e3779b97f4a7c15ULL;
	__u32 place = mixed >> 54;

	return bpf_map_lookup_elem(&hops, &place);
}

static __always_inline __u64 hop_clock(__u64 now)
{
#ifdef MOORING_TEST_CLOCK
	now = bpf_ktime_get_boot_ns(); /* the kernel's tables do not stand still with the test's clock */
#endif
	return now;
}

/* Whether the place holds what the kernel said of such a packet a moment ago. */
static __always_inline int is_hop(const struct hop *hop, const struct xdp_md *context, __u8 version,
				  const struct address *from, const struct address *to, __u8 class, __u8 protocol,
				  __u16 length, __u64 now)
{
	return hop_clock(now) < hop->until_ns && same_address(&hop->to, to) && same_address(&hop->from, from) &&
	       hop->ingress == context->ingress_ifindex && hop->version == version && hop->class == class &&
	       hop->protocol == protocol && length <= hop->mtu;
}

/* Asks the kernel and keeps it; 0 when the program cannot send such a packet. */
static __always_inline int find_hop(struct hop *hop, struct xdp_md *context, const struct config *settings,
				    __u8 version, const struct address *from, const struct address *to, __u8 class,
				    __u8 protocol, __u16 length, __u64 now)
{
	hop->from = *from;
	hop->to = *to;
	hop->ingress = context->ingress_ifindex;
	hop->version = version;
	hop->class = class;
	hop->protocol = protocol;
	hop->generation = 0;
	if (!ask_kernel(context, settings, hop, length))
		return 0;
	hop->until_ns = hop_clock(now) + HOP_KEPT_NS;
	return 1;
}

_Static_assert(HOPS == 1 << 10, "hop_place() takes the upper 10 bits");

static __always_inline void write_ethernet(void *at, const struct hop *hop, int version)
{
	__builtin_memcpy(at, hop->to_mac, 6);
	__builtin_memcpy(at + 6, hop->from_mac, 6);
	LOAD16(at + 12) = version == IPV4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
}

static __always_inline int send_by(struct xdp_md *context, const struct config *settings, const struct hop *hop)
{
	if (hop->ifindex == context->ingress_ifindex && !settings->redirect_only)
		return XDP_TX;
	return bpf_redirect(hop->ifindex, 0);
}

#endif
