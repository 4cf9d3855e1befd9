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

static __always_inline int is_tunnelled(const struct config *settings, const struct packet *packet, void *payload,
					void *end)
{
	return packet->protocol == IPPROTO_UDP && payload + UDP_HEADER <= end &&
	       LOAD16(payload + 2) == bpf_htons(settings->tunnel_port);
}

/* Whether a datagram to the tunnel's port is for a session that the index knows; fills the rest of `datagram`. */
static __always_inline int is_of_session(void *payload, void *end, struct datagram *datagram)
{
	const struct packet *outer = &datagram->outer;
	union found found;

	if (payload + UDP_HEADER + 4 > end)
		return 0;
	__u16 length = bpf_ntohs(LOAD16(payload + 4));
	__u32 number = bpf_ntohl(LOAD32(payload + UDP_HEADER)) & 0xffffff;

	if (length != outer->length - outer->header || length < UDP_HEADER + 4)
		return 0;
	if (!look_up(&outer->destination, INDEX_SESSION, number, &found))
		return 0;
	datagram->session = live_session(found.value.slot);
	if (!datagram->session || datagram->session->index != number)
		return 0;
	datagram->slot = found.value.slot;
	datagram->port = bpf_ntohs(LOAD16(payload));
	datagram->length = length - UDP_HEADER;
	datagram->offset = ETHERNET_HEADER + outer->header + UDP_HEADER;
	return 1;
}

/* A frame that carries a packet of `version`. */
static __always_inline int frame(struct xdp_md *context, const struct config *settings, int version)
{
	void *at = (void *)(long)context->data + ETHERNET_HEADER;
	void *end = (void *)(long)context->data_end;
	void *payload = at + HEADER_OF(version);
	union {
		struct datagram up;
		struct delivery down;
	} of;
	union found found;

	_Static_assert(__builtin_offsetof(struct datagram, outer) == __builtin_offsetof(struct delivery, packet),
		       "read into both");
	if (read_packet(at, end, version, &of.up.outer) != FORM_PLAIN || of.up.outer.length > end - at)
		return XDP_PASS;
	int tunnelled = is_tunnelled(settings, &of.up.outer, payload, end);

	if (tunnelled && is_of_session(payload, end, &of.up)) {
		of.up.settings = settings;
		of.up.now = clock_ns(settings);
		int verdict = admit(context, &of.up);

		if (verdict != UNDECIDED)
			return verdict;
		verdict = uplink(context, &of.up);
		if (verdict != XDP_PASS)
			tell_sender(&of.up);
		return verdict;
	}
	if (!look_up(&of.down.packet.destination, INDEX_ADDRESS, 0, &found) || (found.value.flags & INDEX_HOST))
		return XDP_PASS;
	if (!(found.value.flags & INDEX_ENDPOINT)) {
		of.down.settings = settings;
		of.down.now = clock_ns(settings);
		of.down.at = found.value;
		int verdict = find_owner(context, &of.down);

		return verdict == UNDECIDED ? downlink(context, &of.down) : verdict;
	}
	if (!tunnelled)
		return XDP_PASS;
	/* of no session that is known here */
	if (payload + UDP_HEADER + 1 <= end && !is_type(LOAD8(payload + UDP_HEADER) >> 4))
		return drop(GROUP_CONTROL, version, CONTROL_UNKNOWN_TYPE);
	return pass_up(settings, version, PASSED_ENDPOINT, clock_ns(settings));
}

static __always_inline int decide(struct xdp_md *context)
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

SEC("xdp")
int relay(struct xdp_md *context)
{
	return decide(context);
}

#ifdef MOORING_BENCHMARK
#include "benchmark.h"
#endif

char _license[] SEC("license") = "GPL";
