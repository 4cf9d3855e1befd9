/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The fast engine: the hot cases of what src/datapath/decision decides. It keeps nothing of its own but replay windows,
 * sequence numbers of its lane, meters and counters; everything that it does not understand it leaves untouched to the
 * kernel, which brings it to the userspace engine. Validate, then change, then only send or drop.
 */
#include "counters.h"
#include "downlink.h"
#include "lookup.h"
#include "maps.h"
#include "packet.h"
#include "uplink.h"

/* Whether a frame is for this host at all: an interface that listens to everything sees others' too. */
static __always_inline int is_for(const struct port *port, void *ethernet)
{
	return LOAD32(ethernet) == LOAD32(port->mac) && LOAD16(ethernet + 4) == LOAD16(port->mac + 4);
}

/* A frame that carries a packet of `version`. */
static __always_inline int frame(struct xdp_md *context, const struct config *settings, int version)
{
	void *at = (void *)(long)context->data + ETHERNET_HEADER;
	void *end = (void *)(long)context->data_end;
	struct packet packet;
	union found found;

	if (read_packet(at, end, version, &packet) != FORM_PLAIN || packet.length > end - at)
		return XDP_PASS;
	void *payload = at + HEADER_OF(version);

	if (packet.protocol == IPPROTO_UDP && payload + UDP_HEADER + 4 <= end &&
	    LOAD16(payload + 2) == bpf_htons(settings->tunnel_port)) {
		void *tunnel = payload + UDP_HEADER;
		__u16 length = bpf_ntohs(LOAD16(payload + 4));
		__u32 number = bpf_ntohl(LOAD32(tunnel)) & 0xffffff;

		if (length != packet.length - HEADER_OF(version) || length < UDP_HEADER + 4)
			return XDP_PASS;
		if (look_up(&packet.destination, INDEX_SESSION, number, &found)) {
			struct datagram datagram = {
				.outer = &packet,
				.slot = found.value.slot,
				.session = live_session(found.value.slot),
				.port = bpf_ntohs(LOAD16(payload)),
				.length = length - UDP_HEADER,
			};

			if (datagram.session && datagram.session->index == number)
				return uplink(context, settings, tunnel, end, &datagram, version, clock_ns(settings));
		}
	}
	if (!look_up(&packet.destination, INDEX_ADDRESS, 0, &found) || (found.value.flags & INDEX_HOST))
		return XDP_PASS;
	__u64 now = clock_ns(settings);

	if (!(found.value.flags & INDEX_ENDPOINT))
		return downlink(context, settings, &packet, version, payload, end, found.value, now);
	if (packet.protocol != IPPROTO_UDP || payload + UDP_HEADER > end ||
	    LOAD16(payload + 2) != bpf_htons(settings->tunnel_port))
		return XDP_PASS;
	if (payload + UDP_HEADER + 1 <= end && !is_type(LOAD8(payload + UDP_HEADER) >> 4))
		return drop(GROUP_CONTROL, version, CONTROL_UNKNOWN_TYPE);
	return pass_up(settings, version, PASSED_ENDPOINT, now);
}

SEC("xdp")
int relay(struct xdp_md *context)
{
	void *at = (void *)(long)context->data;
	void *end = (void *)(long)context->data_end;
	__u32 zero = 0;
	struct config *settings = bpf_map_lookup_elem(&config, &zero);

	if (!settings || *(volatile __u64 *)&settings->magic != MAGIC || settings->layout_version != LAYOUT_VERSION)
		return XDP_PASS;
	const struct port *port = port_of(settings, context->ingress_ifindex);

	if (!port || at + ETHERNET_HEADER > end || !is_for(port, at))
		return XDP_PASS;
	switch (bpf_ntohs(LOAD16(at + 12))) {
	case ETH_P_IP:
		return frame(context, settings, IPV4);
	case ETH_P_IPV6:
		return frame(context, settings, IPV6);
	default:
		return XDP_PASS;
	}
}

char _license[] SEC("license") = "GPL";
