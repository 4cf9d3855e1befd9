/* From the public side to a device: whose packet it is, whether it may go, then into the tunnel. */
#ifndef MOORING_DOWNLINK_H
#define MOORING_DOWNLINK_H

#include "counters.h"
#include "encap.h"
#include "events.h"
#include "lookup.h"
#include "police.h"
#include "way.h"

/* Whom a packet belongs to. */
struct owner {
	struct session *session;
	struct lease *lease;
	__u32 slot;
};

#define OWNED -1 /* else a verdict of XDP */

/* Looks a block up and verifies that it is the one: of INDEX_PORTS or INDEX_SPIS, `number` a port or an SPI. */
static __always_inline int block_owner(const struct packet *packet, int version, enum index_kind kind, __u32 number,
				       __u8 shift, int complete, struct owner *owner)
{
	union found found;
	__u32 missing = kind == INDEX_PORTS ? DOWNLINK_UNLEASED_PORT : DOWNLINK_UNLEASED_SPI;

	if (shift == NO_BLOCKS || !look_up(&packet->destination, kind, number >> (shift & 31), &found))
		return complete ? drop(GROUP_DOWNLINK, version, missing) : pass(version, PASSED_MISS);
	__u32 place = found.value.lease & (SESSION_LEASES - 1);

	owner->slot = found.value.slot;
	owner->session = live_session(owner->slot);
	if (!owner->session)
		return pass(version, PASSED_RACE);
	owner->lease = &owner->session->leases[place];
	__u8 flags = *(volatile __u8 *)&owner->session->lease_flags[place];
	int holds = kind == INDEX_PORTS ? (flags & LEASE_PORTS) && holds_port(owner->lease, number) :
					  (flags & LEASE_SPIS) && holds_spi(owner->lease, number);

	if (!(flags & LEASE_HELD) || !holds || !leases_address(owner->lease, &packet->destination))
		return pass(version, PASSED_RACE);
	return flags & LEASE_SLOW ? pass(version, PASSED_POLICY) : OWNED;
}

/* On an address that is leased in blocks. */
static __always_inline int share_owner(const struct packet *packet, int version, void *payload, void *end,
				       struct index_value at, struct owner *owner)
{
	int complete = at.flags & INDEX_COMPLETE;
	__u32 left = packet->length - HEADER_OF(version);

	if (left < 8 || payload + 8 > end)
		return pass(version, PASSED_FORM);
	switch (packet->protocol) {
	case IPPROTO_ESP:
		return block_owner(packet, version, INDEX_SPIS, bpf_ntohl(LOAD32(payload)), at.spi_shift, complete, owner);
	case IPPROTO_AH:
		return block_owner(packet, version, INDEX_SPIS, bpf_ntohl(LOAD32(payload + 4)), at.spi_shift, complete,
				   owner);
	case IPPROTO_TCP:
		return block_owner(packet, version, INDEX_PORTS, bpf_ntohs(LOAD16(payload + 2)), at.port_shift, complete,
				   owner);
	case IPPROTO_UDP: {
		__u16 port = bpf_ntohs(LOAD16(payload + 2));
		union found found;

		if (port != 500 && port != 4500)
			return block_owner(packet, version, INDEX_PORTS, port, at.port_shift, complete, owner);
		/* nobody's port: then IKE and NAT traversal are told apart */
		if (at.port_shift != NO_BLOCKS &&
		    look_up(&packet->destination, INDEX_PORTS, port >> (at.port_shift & 31), &found))
			return block_owner(packet, version, INDEX_PORTS, port, at.port_shift, complete, owner);
		if (!complete || port == 500 || left < UDP_HEADER + 8 || payload + UDP_HEADER + 8 > end)
			return pass(version, PASSED_PROTOCOL);
		__u32 spi = bpf_ntohl(LOAD32(payload + UDP_HEADER));

		if (spi == 0)
			return pass(version, PASSED_PROTOCOL);
		return block_owner(packet, version, INDEX_SPIS, spi, at.spi_shift, complete, owner);
	}
	default:
		return pass(version, PASSED_PROTOCOL);
	}
}

static __always_inline int whole_owner(const struct packet *packet, int version, struct index_value at,
				       struct owner *owner)
{
	__u32 place = at.lease & (SESSION_LEASES - 1);

	owner->slot = at.slot;
	owner->session = live_session(at.slot);
	if (!owner->session)
		return pass(version, PASSED_RACE);
	owner->lease = &owner->session->leases[place];
	__u8 flags = *(volatile __u8 *)&owner->session->lease_flags[place];

	if ((flags & (LEASE_HELD | LEASE_WHOLE)) != (LEASE_HELD | LEASE_WHOLE) ||
	    !leases_address(owner->lease, &packet->destination))
		return pass(version, PASSED_RACE);
	return flags & LEASE_SLOW ? pass(version, PASSED_POLICY) : OWNED;
}

/* Everything is decided: nothing was changed before, and nothing is passed on once a header was written. */
static __always_inline int into_tunnel(struct xdp_md *context, const struct config *settings,
				       const struct packet *inner, int version, int outer, const struct path *path,
				       const struct anchor *anchor, struct way *way, struct owner *owner, __u64 now)
{
	struct bpf_fib_lookup hop = {};
	struct tagging work;
	const __u64 *endpoint = (const __u64 *)(outer == IPV4 ? anchor->endpoint_v4 : anchor->endpoint_v6);
	const __u64 *device = (const __u64 *)path->address;
	struct address from = { endpoint[0], endpoint[1] };
	struct address to = { device[0], device[1] };
	__u8 class = ingress_outer(settings, inner->class);
	__u32 datagram = UDP_HEADER + TUNNEL_HEADER + inner->length;
	__u16 length = HEADER_OF(outer) + datagram;
	int is_data = is_short(inner, version);
	struct meter *meter = bpf_map_lookup_elem(&meters, &owner->slot);

	if (!meter || (from.high == 0 && from.low == 0))
		return pass(version, PASSED_RACE);
	if (!find_hop(context, settings, outer, &from, &to, class, IPPROTO_UDP, length, &hop))
		return pass(version, PASSED_ROUTE);
	if (!within_rate(&meter->downlink, inner->length, now))
		return drop(GROUP_DOWNLINK, version, DOWNLINK_POLICED);
	__u32 sequence = next_sequence(way, path->key_number);

	if (sequence == 0)
		return drop(GROUP_DOWNLINK, version, DOWNLINK_KEY_EXHAUSTED);

	/* Ethernet's padding behind a short packet is no part of the datagram. */
	int padding = frame_length(context) - ETHERNET_HEADER - inner->length;

	if (padding > 0 && bpf_xdp_adjust_tail(context, -padding))
		return pass(version, PASSED_HEADROOM);
	if (bpf_xdp_adjust_head(context, -OUTER(outer)))
		return pass(version, PASSED_HEADROOM);
	void *at = (void *)(long)context->data;
	void *end = (void *)(long)context->data_end;
	void *tunnel = at + ETHERNET_HEADER + HEADER_OF(outer) + UDP_HEADER;
	void *packet = tunnel + TUNNEL_HEADER;

	if (packet + HEADER_OF(version) > end)
		return XDP_DROP;
	forward_header(packet, version, inner, ingress_inner(settings, inner->class));
	work.head = tunnel_head(is_data ? TYPE_DATA : TYPE_DATA_FULL, path->key_number, owner->session->index, sequence);
	work.key[0] = path->key[0];
	work.key[1] = path->key[1];
	if (is_data) {
		if (packet + HEADER_OF(version) + TAGGED_BEHIND > end)
			return XDP_DROP;
		work.tag = short_tag(work.key, work.head, packet, version);
	} else {
		if (full_tag(context, &work, ETHERNET_HEADER + OUTER(outer), inner->length))
			return XDP_DROP;
		at = (void *)(long)context->data;
		end = (void *)(long)context->data_end;
		tunnel = at + ETHERNET_HEADER + HEADER_OF(outer) + UDP_HEADER;
		if (tunnel + TUNNEL_HEADER > end)
			return XDP_DROP;
	}
	LOAD64(tunnel) = work.head;
	LOAD64(tunnel + 8) = work.tag;
	void *udp = tunnel - UDP_HEADER;

	LOAD16(udp) = bpf_htons(settings->tunnel_port);
	LOAD16(udp + 2) = bpf_htons(path->port);
	LOAD16(udp + 4) = bpf_htons(datagram);
	LOAD16(udp + 6) = 0;
	write_ethernet(at, &hop, outer);
	write_outer(at + ETHERNET_HEADER, outer, &from, &to, class, length, sequence);
	if (outer == IPV6) {
		/* pseudo-header: both addresses are summed where they are, in front of the datagram */
		__u32 offset = ETHERNET_HEADER + 8;
		int sum = checksum(context, offset, 32 + datagram, bpf_htonl(datagram + IPPROTO_UDP));

		if (sum < 0)
			return XDP_DROP;
		at = (void *)(long)context->data;
		end = (void *)(long)context->data_end;
		udp = at + ETHERNET_HEADER + IPV6_HEADER;
		if (udp + UDP_HEADER > end)
			return XDP_DROP;
		LOAD16(udp + 6) = sum ? sum : 0xffff;
	}
	meter_downlink(meter, inner->length);
	count(GROUP_DOWNLINK, version, DOWNLINK_FORWARDED);
	if (sequence >= settings->rekey_after) {
		tell_of(EVENT_REKEY, LIMIT_REKEY, owner->slot, owner->session, inner, 0, path->key_number, 0, 0, now);
	}
	return send_by(context, &hop);
}

/* A plain packet to an address that the index knows as leased. */
static __always_inline int downlink(struct xdp_md *context, const struct config *settings, const struct packet *packet,
				    int version, void *payload, void *end, struct index_value at, __u64 now)
{
	struct owner owner;
	struct path path;
	int verdict = at.flags & INDEX_WHOLE ? whole_owner(packet, version, at, &owner) :
					       share_owner(packet, version, payload, end, at, &owner);

	if (verdict != OWNED)
		return verdict;
	if (now >= deadline_of(&owner.lease->until_ns))
		return drop(GROUP_DOWNLINK, version, DOWNLINK_EXPIRED);
	struct anchor *anchor = anchor_of(owner.session);
	struct way *way = bpf_map_lookup_elem(&ways, &owner.slot);

	if (!anchor || !way)
		return pass(version, PASSED_RACE);
	if (now >= deadline_of(&anchor->deadline_ns))
		return drop(GROUP_DOWNLINK, version, DOWNLINK_ANCHOR_DEADLINE);
	if (!is_open(way, now))
		return pass(version, PASSED_HELD);
	if (packet->ttl <= 1)
		return pass(version, PASSED_TTL);
	if (packet->length > settings->inner_mtu || packet->length > MOST_COVERED)
		return pass(version, PASSED_SIZE);
	if (!copy_path(way, &path))
		return pass(version, PASSED_RACE);
	if (path.family == IPV4)
		return into_tunnel(context, settings, packet, version, IPV4, &path, anchor, way, &owner, now);
	return into_tunnel(context, settings, packet, version, IPV6, &path, anchor, way, &owner, now);
}

#endif
