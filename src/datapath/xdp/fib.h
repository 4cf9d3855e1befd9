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

/* Fills `hop` for a packet of `length` octets and `version`; false when the program cannot send it. */
static __always_inline int find_hop(struct xdp_md *context, const struct config *settings, int version,
				    const struct address *from, const struct address *to, __u8 class, __u8 protocol,
				    __u16 length, struct bpf_fib_lookup *hop)
{
	hop->l4_protocol = protocol;
	hop->sport = 0;
	hop->dport = 0;
	hop->tot_len = length;
	hop->ifindex = context->ingress_ifindex;
	if (version == IPV4) {
		hop->family = AF_INET;
		hop->tos = class;
		hop->ipv4_src = from->low >> 32;
		hop->ipv4_dst = to->low >> 32;
	} else {
		hop->family = AF_INET6;
		hop->flowinfo = bpf_htonl((__u32)class << 20);
		((__u64 *)hop->ipv6_src)[0] = from->high;
		((__u64 *)hop->ipv6_src)[1] = from->low;
		((__u64 *)hop->ipv6_dst)[0] = to->high;
		((__u64 *)hop->ipv6_dst)[1] = to->low;
	}
	if (bpf_fib_lookup(context, hop, sizeof(*hop), 0) != BPF_FIB_LKUP_RET_SUCCESS)
		return 0;
	return hop->ifindex == context->ingress_ifindex || port_of(settings, hop->ifindex) != 0;
}

static __always_inline void write_ethernet(void *at, const struct bpf_fib_lookup *hop, int version)
{
	__builtin_memcpy(at, hop->dmac, 6);
	__builtin_memcpy(at + 6, hop->smac, 6);
	LOAD16(at + 12) = version == IPV4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
}

static __always_inline int send_by(struct xdp_md *context, const struct config *settings,
				   const struct bpf_fib_lookup *hop)
{
	if (hop->ifindex == context->ingress_ifindex && !settings->redirect_only)
		return XDP_TX;
	return bpf_redirect(hop->ifindex, 0);
}

#endif
