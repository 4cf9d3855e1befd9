/* From the public side to a device: whose packet it is, whether it may go, then into the tunnel. */
#ifndef MOORING_DOWNLINK_H
#define MOORING_DOWNLINK_H

#include "counters.h"
#include "encap.h"
#include "events.h"
#include "lookup.h"
#include "police.h"
#include "way.h"

/* A plain packet to an address that the index knows as leased. */
struct delivery {
	struct packet packet;
	const struct config *settings;
	struct session *session; /* whose it is */
	struct lease *lease;
	__u64 now;
	struct index_value at; /* what the index says of the destination */
	__u32 slot;
};

/* Takes the lease that the index names, if it is what the index was asked for. */
static __always_inline int take_lease(struct delivery *of, struct index_value at, __u8 kind, __u32 number)
{
	__u32 place = at.lease & (SESSION_LEASES - 1);
	struct session *session = live_session(at.slot);
	__u8 version = of->packet.version;

	if (!session)
		return pass(version, PASSED_RACE);
	struct lease *lease = &session->leases[place];
	__u8 flags = *(volatile __u8 *)&session->lease_flags[place];

	if ((flags & (LEASE_HELD | kind)) != (LEASE_HELD | kind) || !leases_address(lease, &of->packet.destination))
		return pass(version, PASSED_RACE);
	if (kind == LEASE_PORTS && !holds_port(lease, number))
		return pass(version, PASSED_RACE);
	if (kind == LEASE_SPIS && !holds_spi(lease, number))
		return pass(version, PASSED_RACE);
	if (flags & LEASE_SLOW)
		return pass(version, PASSED_POLICY);
	of->slot = at.slot;
	of->session = session;
	of->lease = lease;
	return UNDECIDED;
}

/* On an address that is leased in blocks: by port or by SPI, never by anything encrypted. */
static __always_inline int take_share(struct delivery *of, void *payload, void *end)
{
	const struct packet *packet = &of->packet;
	__u8 version = packet->version;
	int complete = of->at.flags & INDEX_COMPLETE;
	__u32 left = packet->length - packet->header;
	enum index_kind kind = INDEX_SPIS;
	__u32 number = 0;
	union found found;

	if (left < 8 || payload + 8 > end)
		return pass(version, PASSED_FORM);
	switch (packet->protocol) {
	case IPPROTO_ESP:
		number = bpf_ntohl(LOAD32(payload));
		break;
	case IPPROTO_AH:
		number = bpf_ntohl(LOAD32(payload + 4));
		break;
	case IPPROTO_TCP:
	case IPPROTO_UDP:
		kind = INDEX_PORTS;
		number = bpf_ntohs(LOAD16(payload + 2));
		break;
	default:
		return pass(version, PASSED_PROTOCOL);
	}
	if (kind == INDEX_PORTS) {
		__u8 shift = of->at.port_shift;

		if (shift != NO_BLOCKS && look_up(&packet->destination, INDEX_PORTS, number >> (shift & 31), &found))
			return take_lease(of, found.value, LEASE_PORTS, number);
		if (!complete)
			return pass(version, PASSED_MISS);
		if (packet->protocol == IPPROTO_TCP || (number != 500 && number != 4500))
			return drop(GROUP_DOWNLINK, version, DOWNLINK_UNLEASED_PORT);
		/* nobody's port: ESP in UDP goes by its SPI, IKE is the slow path's */
		if (number == 500 || left < UDP_HEADER + 8 || payload + UDP_HEADER + 8 > end)
			return pass(version, PASSED_PROTOCOL);
		number = bpf_ntohl(LOAD32(payload + UDP_HEADER));
		if (number == 0)
			return pass(version, PASSED_PROTOCOL);
	}
	__u8 shift = of->at.spi_shift;

	if (shift != NO_BLOCKS && look_up(&packet->destination, INDEX_SPIS, number >> (shift & 31), &found))
		return take_lease(of, found.value, LEASE_SPIS, number);
	return complete ? drop(GROUP_DOWNLINK, version, DOWNLINK_UNLEASED_SPI) : pass(version, PASSED_MISS);
}

/* Everything is decided: nothing was changed before, and nothing is passed on once a header was written. */
static __always_inline int into_tunnel(struct xdp_md *context, struct delivery *of, const struct path *path,
				       const struct anchor *anchor, struct way *way)
{
	struct tagging work;
	const struct config *settings = of->settings;
	const struct packet *inner = &of->packet;
	int outer = path->family == IPV4 ? IPV4 : IPV6;
	const struct address *from = (void *)(outer == IPV4 ? anchor->endpoint_v4 : anchor->endpoint_v6);
	const struct address *to = (void *)path->address;
	__u8 class = ingress_outer(settings, inner->class);
	__u32 datagram = UDP_HEADER + TUNNEL_HEADER + inner->length;
	__u16 length = HEADER_OF(outer) + datagram;
	struct meter *meter = bpf_map_lookup_elem(&meters, &of->slot);

	if (!meter || (from->high == 0 && from->low == 0))
		return pass(inner->version, PASSED_RACE);
	struct hop *hop = hop_place(from, to);

	if (!hop)
		return pass(inner->version, PASSED_RACE);
	if (!is_hop(hop, context, outer, from, to, class, IPPROTO_UDP, length, of->now) &&
	    !find_hop(hop, context, settings, outer, from, to, class, IPPROTO_UDP, length, of->now))
		return pass(inner->version, PASSED_ROUTE);
	if (!within_rate(&meter->downlink, inner->length, of->now))
		return drop(GROUP_DOWNLINK, inner->version, DOWNLINK_POLICED);
	__u32 sequence = next_sequence(way, path->key_number);

	if (sequence == 0)
		return drop(GROUP_DOWNLINK, inner->version, DOWNLINK_KEY_EXHAUSTED);

	/* Ethernet's padding behind a short packet is no part of the datagram. */
	int padding = frame_length(context) - ETHERNET_HEADER - inner->length;

	if (padding > 0 && bpf_xdp_adjust_tail(context, -padding))
		return pass(inner->version, PASSED_HEADROOM);
	if (bpf_xdp_adjust_head(context, outer == IPV4 ? -OUTER(IPV4) : -OUTER(IPV6)))
		return pass(inner->version, PASSED_HEADROOM);

	work.head = tunnel_head(is_short(inner) ? TYPE_DATA : TYPE_DATA_FULL, path->key_number, of->session->index,
				sequence);
	work.key[0] = path->key[0];
	work.key[1] = path->key[1];
	__u32 offset = ETHERNET_HEADER + (outer == IPV4 ? OUTER(IPV4) : OUTER(IPV6));
	void *end = (void *)(long)context->data_end;
	void *packet = (void *)(long)context->data + offset;

	if (!forward_header(packet, end, inner, ingress_inner(settings, inner->class)))
		return XDP_DROP;
	if (!is_short(inner)) {
		if (full_tag(context, &work, offset, inner->length))
			return XDP_DROP;
	} else if (inner->version == IPV4) {
		if (packet + IPV4_HEADER + TAGGED_BEHIND > end)
			return XDP_DROP;
		work.tag = short_tag(&work, packet, IPV4);
	} else {
		if (packet + IPV6_HEADER + TAGGED_BEHIND > end)
			return XDP_DROP;
		work.tag = short_tag(&work, packet, IPV6);
	}
	void *at = (void *)(long)context->data;

	end = (void *)(long)context->data_end;
	if (outer == IPV4) {
		if (at + ETHERNET_HEADER + OUTER(IPV4) > end)
			return XDP_DROP;
		write_outer(at + ETHERNET_HEADER, IPV4, from, to, class, length, sequence);
		write_tunnel(at + ETHERNET_HEADER + IPV4_HEADER, settings->tunnel_port, path->port, datagram, &work);
	} else {
		if (at + ETHERNET_HEADER + OUTER(IPV6) > end)
			return XDP_DROP;
		write_outer(at + ETHERNET_HEADER, IPV6, from, to, class, length, sequence);
		write_tunnel(at + ETHERNET_HEADER + IPV6_HEADER, settings->tunnel_port, path->port, datagram, &work);
		/* with the pseudo-header, whose addresses are summed where they are, in front of the datagram */
		int sum = checksum(context, ETHERNET_HEADER + 8, 32 + datagram, bpf_htonl(datagram + IPPROTO_UDP));

		at = (void *)(long)context->data;
		end = (void *)(long)context->data_end;
		if (sum < 0 || at + ETHERNET_HEADER + OUTER(IPV6) > end)
			return XDP_DROP;
		LOAD16(at + ETHERNET_HEADER + IPV6_HEADER + 6) = sum ? sum : 0xffff;
	}
	write_ethernet(at, hop, outer);
	meter_downlink(meter, inner->length);
	count(GROUP_DOWNLINK, inner->version, DOWNLINK_FORWARDED);
	if (sequence >= settings->rekey_after)
		tell_of(EVENT_REKEY, LIMIT_REKEY, of->slot, of->session, inner, 0, path->key_number, 0, 0, of->now);
	return send_by(context, settings, hop);
}

/* Finds whose packet it is; `of` has packet and at. UNDECIDED: session, lease and slot are filled in. */
static __noinline int find_owner(struct xdp_md *context, struct delivery *of)
{
	void *payload = (void *)(long)context->data + ETHERNET_HEADER + of->packet.header;
	void *end = (void *)(long)context->data_end;

	/* The kernel tells the sender of a hop too many and of a packet too long, whoever would have got it. */
	if (of->packet.ttl <= 1)
		return pass(of->packet.version, PASSED_TTL);
	if (of->packet.length > of->settings->inner_mtu || of->packet.length > MOST_COVERED)
		return pass(of->packet.version, PASSED_SIZE);
	return of->at.flags & INDEX_WHOLE ? take_lease(of, of->at, LEASE_WHOLE, 0) : take_share(of, payload, end);
}

/* A packet whose owner is found. */
static __noinline int downlink(struct xdp_md *context, struct delivery *of)
{
	__u8 version = of->packet.version;
	struct path path;

	if (of->now >= deadline_of(&of->lease->until_ns))
		return drop(GROUP_DOWNLINK, version, DOWNLINK_EXPIRED);
	struct anchor *anchor = anchor_of(of->session);
	struct way *way = bpf_map_lookup_elem(&ways, &of->slot);

	if (!anchor || !way)
		return pass(version, PASSED_RACE);
	if (of->now >= deadline_of(&anchor->deadline_ns))
		return drop(GROUP_DOWNLINK, version, DOWNLINK_ANCHOR_DEADLINE);
	if (!is_open(way, of->now))
		return pass(version, PASSED_HELD);
	if (!copy_path(way, &path))
		return pass(version, PASSED_RACE);
	return into_tunnel(context, of, &path, anchor, way);
}

#endif
