/* From a device to the public side: whether the datagram is its own, whether the packet in it may go, then out. */
#ifndef MOORING_UPLINK_H
#define MOORING_UPLINK_H

#include "counters.h"
#include "encap.h"
#include "events.h"
#include "lookup.h"
#include "police.h"
#include "way.h"
#include "window.h"

#define CONTROL_LENGTH 116
#define CONTROL_TAG 20
#define CONTROL_SEALED 28

/* A datagram to a tunnel endpoint, of a session that the index knows. */
struct datagram {
	const struct packet *outer;
	struct session *session;
	__u32 slot;
	__u16 port; /* it came from */
	__u16 length; /* behind the UDP header */
};

/* What is left to the slow path goes to a socket: while nobody reads it the kernel would refuse devices. */
static __always_inline int pass_up(const struct config *settings, int version, enum passed_count reason, __u64 now)
{
	if (now >= deadline_of(&settings->alive_until_ns))
		return drop(GROUP_CONTROL, version, CONTROL_PROCESS_AWAY);
	return pass(version, reason);
}

static __always_inline void tell(enum event_kind kind, enum event_limit limit, const struct datagram *datagram,
				 __u32 key_number, __u8 reason, __u64 now)
{
	tell_of(kind, limit, datagram->slot, datagram->session, datagram->outer, datagram->port, key_number,
		datagram->length, reason, now);
}

/* Copies the key that a phase says DATA is under. 0: none in force. */
static __always_inline int copy_key(const struct session *session, __u32 phase, __u64 now, struct receive_key *into)
{
#pragma unroll
	for (int i = 0; i < SESSION_KEYS; i++) {
		const volatile struct receive_key *from = &session->receive[i];
		__u32 version = from->version;

		into->key_number = from->key_number;
		into->until_ns = from->until_ns;
		if ((into->key_number & (PHASES - 1)) != phase || now >= into->until_ns || (version & 1))
			continue;
		into->key[0] = from->key[0];
		into->key[1] = from->key[1];
		into->window = from->window;
		if (from->version == version)
			return 1;
	}
	return 0;
}

/* A CONTROL datagram: tagged for the session, or nobody's. */
static __always_inline int control(struct xdp_md *context, const struct config *settings, void *at, void *end,
				   const struct datagram *datagram, int version, __u64 now)
{
	struct sip s;

	if (datagram->length != CONTROL_LENGTH || at + CONTROL_LENGTH > end)
		return drop(GROUP_CONTROL, version, CONTROL_BAD_LENGTH);
	if (LOAD8(at) != TYPE_CONTROL << 4)
		return drop(GROUP_CONTROL, version, CONTROL_BAD_TYPE);
	(void)context;
	/* 20 octets of header in front of the tag, 88 octets behind it: 108 = 13 words and 4 octets */
	sip_start(&s, datagram->session->control_key);
	sip_word(&s, LOAD64(at));
	sip_word(&s, LOAD64(at + 8));
	sip_word(&s, LOAD32(at + 16) | (__u64)LOAD32(at + CONTROL_SEALED) << 32);
#pragma unroll
	for (int i = CONTROL_SEALED + 4; i + 8 <= CONTROL_LENGTH; i += 8)
		sip_word(&s, LOAD64(at + i));
	if (sip_end(&s, LOAD32(at + CONTROL_LENGTH - 4) | 108ULL << 56) != LOAD64(at + CONTROL_TAG))
		return drop(GROUP_CONTROL, version, CONTROL_BAD_TAG);
	return pass_up(settings, version, PASSED_CONTROL, now);
}

/* Which of the session's inline leases lets a packet out; below 0 when none does, or not without doubt. */
static __always_inline int lease_for(const struct session *session, const struct packet *inner, int version,
				     void *payload, void *end, __u64 now, __u32 *spi, __u8 *protocol)
{
	__u32 left = inner->length - HEADER_OF(version);

	*protocol = 0;
#pragma unroll
	for (int i = 0; i < SESSION_LEASES; i++) {
		const struct lease *lease = &session->leases[i];
		__u8 flags = *(const volatile __u8 *)&session->lease_flags[i];

		if (!(flags & LEASE_HELD) || (flags & LEASE_SLOW) || !leases_address(lease, &inner->source))
			continue;
		if (now >= deadline_of(&lease->until_ns))
			continue;
		if (flags & LEASE_WHOLE)
			return i;
		if (left < 8 || payload + 8 > end)
			return -1;
		switch (inner->protocol) {
		case IPPROTO_TCP:
		case IPPROTO_UDP: {
			__u16 port = bpf_ntohs(LOAD16(payload));

			if ((flags & LEASE_PORTS) && holds_port(lease, port))
				return i;
			if (!(flags & LEASE_SPIS) || inner->protocol != IPPROTO_UDP || port != 4500)
				break;
			if (left < UDP_HEADER + 8 || payload + UDP_HEADER + 4 > end)
				break;
			if (LOAD32(payload + UDP_HEADER) == 0)
				break;
			/* ESP in UDP, if nobody leases the port itself */
			union found found;

			if (!look_up(&inner->source, INDEX_ADDRESS, 0, &found) ||
			    !(found.value.flags & INDEX_COMPLETE))
				break;
			__u8 shift = found.value.port_shift;

			if (shift != NO_BLOCKS && look_up(&inner->source, INDEX_PORTS, 4500 >> (shift & 31), &found))
				break;
			*spi = bpf_ntohl(LOAD32(payload + UDP_HEADER));
			*protocol = IPPROTO_UDP;
			return i;
		}
		case IPPROTO_ESP:
		case IPPROTO_AH:
			if (!(flags & LEASE_SPIS))
				break;
			*spi = bpf_ntohl(LOAD32(payload + (inner->protocol == IPPROTO_AH ? 4 : 0)));
			*protocol = inner->protocol;
			return i;
		}
	}
	return -1;
}

/* An inner packet whose datagram was admitted. */
static __always_inline int out_of_tunnel(struct xdp_md *context, const struct config *settings,
					 const struct datagram *datagram, int outer, const struct packet *inner,
					 int version, enum form form, void *at, void *end, __u64 now)
{
	struct bpf_fib_lookup hop = {};
	union found found;
	__u32 spi = 0;
	__u8 protocol;

	if (form != FORM_PLAIN)
		return pass_up(settings, version, PASSED_FORM, now);
	if (inner->ttl <= 1)
		return pass_up(settings, version, PASSED_TTL, now);
	int lease = lease_for(datagram->session, inner, version, at + HEADER_OF(version), end, now, &spi, &protocol);

	if (lease < 0)
		return pass_up(settings, version, PASSED_SOURCE, now);
	if (look_up(&inner->destination, INDEX_ADDRESS, 0, &found)) {
		if (!(found.value.flags & (INDEX_ENDPOINT | INDEX_HOST)))
			return pass_up(settings, version, PASSED_HAIRPIN, now);
		__u32 reason = found.value.flags & INDEX_ENDPOINT ? UPLINK_OWN_ENDPOINT : UPLINK_RELAY_HOST;

		tell(EVENT_NOTICE, LIMIT_NOTICE, datagram, 0, reason, now);
		return drop(GROUP_UPLINK, version, reason);
	}
	if (!is_routable(&inner->destination, version)) {
		tell(EVENT_NOTICE, LIMIT_NOTICE, datagram, 0, UPLINK_UNROUTABLE_DESTINATION, now);
		return drop(GROUP_UPLINK, version, UPLINK_UNROUTABLE_DESTINATION);
	}
	if (is_unheard(inner->class, datagram->outer->class))
		return pass_up(settings, version, PASSED_CONGESTION, now);
	__u32 slot = datagram->slot;
	struct meter *meter = bpf_map_lookup_elem(&meters, &slot);

	if (!meter)
		return pass_up(settings, version, PASSED_RACE, now);
	__u8 class = egress_inner(settings, inner->class, datagram->outer->class);

	if (!find_hop(context, settings, version, &inner->source, &inner->destination, class, inner->protocol,
		      inner->length, &hop))
		return pass_up(settings, version, PASSED_ROUTE, now);
	if (!within_rate(&meter->uplink, inner->length, now))
		return drop(GROUP_UPLINK, version, UPLINK_POLICED);
	if (protocol != 0)
		tell_flow(slot, datagram->session, lease, inner, protocol, spi, now);

	forward_header(at, version, inner, class);
	int padding = frame_length(context) - ETHERNET_HEADER - OUTER(outer) - inner->length;

	if (padding > 0 && bpf_xdp_adjust_tail(context, -padding))
		return XDP_DROP;
	if (bpf_xdp_adjust_head(context, OUTER(outer)))
		return XDP_DROP;
	at = (void *)(long)context->data;
	end = (void *)(long)context->data_end;
	if (at + ETHERNET_HEADER > end)
		return XDP_DROP;
	write_ethernet(at, &hop, version);
	meter_uplink(meter, inner->length);
	count(GROUP_UPLINK, version, UPLINK_FORWARDED);
	return send_by(context, &hop);
}

/* DATA or DATA-FULL whose inner packet says that it is of `version`. `at` is the tunnel header. */
static __always_inline int data(struct xdp_md *context, const struct config *settings, void *at, void *end,
				const struct datagram *datagram, int outer, int version, struct receive_key *key,
				struct window *window, __u64 now)
{
	struct packet inner;
	struct tagging work;
	__u8 type = LOAD8(at) >> 4;
	__u32 sequence = bpf_ntohl(LOAD32(at + 4));
	void *packet = at + TUNNEL_HEADER;
	enum form form = read_packet(packet, end, version, &inner);

	if (form == FORM_BAD || inner.length != datagram->length - TUNNEL_HEADER)
		return drop(GROUP_UPLINK, outer, UPLINK_BAD_INNER);
	int is_data = form == FORM_PLAIN && is_short(&inner, version);

	if (is_data != (type == TYPE_DATA))
		return drop(GROUP_UPLINK, outer, UPLINK_CLASS_MISMATCH);
	work.head = LOAD64(at);
	work.key[0] = key->key[0];
	work.key[1] = key->key[1];
	if (is_data) {
		if (packet + HEADER_OF(version) + TAGGED_BEHIND > end)
			return drop(GROUP_UPLINK, outer, UPLINK_BAD_INNER);
		work.tag = short_tag(work.key, work.head, packet, version);
	} else {
		if (inner.length > MOST_COVERED)
			return pass_up(settings, version, PASSED_SIZE, now);
		if (full_tag(context, &work, ETHERNET_HEADER + OUTER(outer), inner.length))
			return drop(GROUP_UPLINK, outer, UPLINK_BAD_INNER);
		end = (void *)(long)context->data_end;
		at = (void *)(long)context->data + ETHERNET_HEADER + HEADER_OF(outer) + UDP_HEADER;
		packet = at + TUNNEL_HEADER;
		if (packet + HEADER_OF(version) > end)
			return drop(GROUP_UPLINK, outer, UPLINK_BAD_INNER);
	}
	if (work.tag != LOAD64(at + 8)) {
		tell(EVENT_REFUSED, LIMIT_REFUSED, datagram, key->key_number, UPLINK_BAD_TAG, now);
		return drop(GROUP_UPLINK, outer, UPLINK_BAD_TAG);
	}
	enum admission admission = window_commit(window, sequence);

	if (admission == ADMITTED_NOT) {
		tell(EVENT_REFUSED, LIMIT_REFUSED, datagram, key->key_number, UPLINK_REPLAYED, now);
		return drop(GROUP_UPLINK, outer, UPLINK_REPLAYED);
	}
	__u32 slot = datagram->slot;
	struct way *way = bpf_map_lookup_elem(&ways, &slot);

	if (way && admission == ADMITTED_FRESH &&
	    !is_way(way, &datagram->outer->source, datagram->port, key->key_number))
		tell(EVENT_STRAY, LIMIT_STRAY, datagram, key->key_number, 0, now);
	if (sequence >= settings->rekey_after)
		tell(EVENT_REKEY, LIMIT_REKEY, datagram, key->key_number, 0, now);
	return out_of_tunnel(context, settings, datagram, outer, &inner, version, form, packet, end, now);
}

/* A datagram to a tunnel endpoint; at least 4 octets of it are at `at`. */
static __always_inline int uplink(struct xdp_md *context, const struct config *settings, void *at, void *end,
				  const struct datagram *datagram, int outer, __u64 now)
{
	__u8 first = LOAD8(at);
	__u8 type = first >> 4;
	int is_data = type == TYPE_DATA || type == TYPE_DATA_FULL;
	struct anchor *anchor = anchor_of(datagram->session);
	struct receive_key key;

	if (!is_data && type != TYPE_CONTROL)
		return drop(GROUP_CONTROL, outer, CONTROL_UNKNOWN_TYPE);
	if (!anchor || !is_endpoint_of(anchor, &datagram->outer->destination, outer))
		return pass_up(settings, outer, PASSED_RACE, now);
	if (now >= deadline_of(&anchor->deadline_ns)) {
		if (is_data)
			return drop(GROUP_UPLINK, outer, UPLINK_ANCHOR_DEADLINE);
		return drop(GROUP_CONTROL, outer, CONTROL_ANCHOR_DEADLINE);
	}
	if (!is_data)
		return control(context, settings, at, end, datagram, outer, now);
	if (datagram->length < TUNNEL_HEADER || at + TUNNEL_HEADER > end)
		return drop(GROUP_UPLINK, outer, UPLINK_TOO_SHORT);
	/* The slow path may know keys that are not here, and keeps the windows of the other lane. */
	if (!copy_key(datagram->session, first >> 2 & (PHASES - 1), now, &key))
		return pass_up(settings, outer, PASSED_UNKNOWN_KEY, now);
	if (first & LANE_FAST)
		return pass_up(settings, outer, PASSED_OTHER_LANE, now);
	__u32 slot = key.window;
	struct window *window = bpf_map_lookup_elem(&windows, &slot);

	if (!window)
		return pass_up(settings, outer, PASSED_RACE, now);
	if (!window_admits(window, bpf_ntohl(LOAD32(at + 4)))) {
		tell(EVENT_REFUSED, LIMIT_REFUSED, datagram, key.key_number, UPLINK_REPLAYED, now);
		return drop(GROUP_UPLINK, outer, UPLINK_REPLAYED);
	}
	if (first & RESERVED)
		return drop(GROUP_UPLINK, outer, UPLINK_BAD_HEADER);
	if (at + TUNNEL_HEADER + 1 > end)
		return drop(GROUP_UPLINK, outer, UPLINK_BAD_INNER);
	if (LOAD8(at + TUNNEL_HEADER) >> 4 == 4)
		return data(context, settings, at, end, datagram, outer, IPV4, &key, window, now);
	return data(context, settings, at, end, datagram, outer, IPV6, &key, window, now);
}

#endif
