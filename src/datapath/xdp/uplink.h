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
	struct packet outer;
	const struct config *settings;
	struct session *session;
	__u64 now;
	__u32 slot;
	__u16 port; /* it came from */
	__u16 length; /* behind the UDP header */
	__u8 offset; /* of the tunnel header in the frame */
	/* Of DATA that was admitted: */
	__u8 is_stray; /* fresh, and not by the way that downlink goes */
	__u8 is_worn; /* its key is nearly used up */
	__u32 key_number;
	enum form form; /* of the packet in it */
	struct packet inner;
};

/* What is left to the slow path goes to a socket: while nobody reads it the kernel would refuse devices. */
static __always_inline int pass_up(const struct config *settings, int version, enum passed_count reason, __u64 now)
{
	if (now >= deadline_of(&settings->alive_until_ns))
		return drop(GROUP_CONTROL, version, CONTROL_PROCESS_AWAY);
	return pass(version, reason);
}

static __always_inline int pass_datagram(const struct datagram *of, int version, enum passed_count reason)
{
	return pass_up(of->settings, version, reason, of->now);
}

static __always_inline void tell(enum event_kind kind, enum event_limit limit, const struct datagram *of,
				 __u32 key_number, __u8 reason)
{
	tell_of(kind, limit, of->slot, of->session, &of->outer, of->port, key_number, of->length, reason, of->now);
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
static __always_inline int control(const struct datagram *of, void *at, void *end)
{
	int version = of->outer.version;
	struct sip s;

	if (of->length != CONTROL_LENGTH || at + CONTROL_LENGTH > end)
		return drop(GROUP_CONTROL, version, CONTROL_BAD_LENGTH);
	if (LOAD8(at) != TYPE_CONTROL << 4)
		return drop(GROUP_CONTROL, version, CONTROL_BAD_TYPE);
	/* 20 octets of header in front of the tag, 88 octets behind it: 108 = 13 words and 4 octets */
	sip_start(&s, of->session->control_key);
	sip_word(&s, LOAD64(at));
	sip_word(&s, LOAD64(at + 8));
	sip_word(&s, LOAD32(at + 16) | (__u64)LOAD32(at + CONTROL_SEALED) << 32);
#pragma clang loop unroll(disable)
	for (int i = CONTROL_SEALED + 4; i + 8 <= CONTROL_LENGTH; i += 8)
		sip_word(&s, LOAD64(at + i));
	if (sip_end(&s, LOAD32(at + CONTROL_LENGTH - 4) | 108ULL << 56) != LOAD64(at + CONTROL_TAG))
		return drop(GROUP_CONTROL, version, CONTROL_BAD_TAG);
	return pass_datagram(of, version, PASSED_CONTROL);
}

/* DATA or DATA-FULL, at `at`, whose inner packet says that it is of `version`. */
static __always_inline int admit_data(struct xdp_md *context, struct datagram *of, void *at, void *end, int version,
				      const struct receive_key *key, struct window *window)
{
	struct tagging work;
	int outer = of->outer.version;
	__u8 type = LOAD8(at) >> 4;
	__u32 sequence = bpf_ntohl(LOAD32(at + 4));
	void *packet = at + TUNNEL_HEADER;

	of->form = read_packet(packet, end, version, &of->inner);
	if (of->form == FORM_BAD || of->inner.length != of->length - TUNNEL_HEADER)
		return drop(GROUP_UPLINK, outer, UPLINK_BAD_INNER);
	int is_data = of->form == FORM_PLAIN && is_short(&of->inner);

	if (is_data != (type == TYPE_DATA))
		return drop(GROUP_UPLINK, outer, UPLINK_CLASS_MISMATCH);
	work.head = LOAD64(at);
	work.key[0] = key->key[0];
	work.key[1] = key->key[1];
	if (is_data) {
		if (packet + HEADER_OF(version) + TAGGED_BEHIND > end)
			return drop(GROUP_UPLINK, outer, UPLINK_BAD_INNER);
		work.tag = short_tag(&work, packet, version);
	} else {
		if (of->inner.length > MOST_COVERED)
			return pass_datagram(of, version, PASSED_SIZE);
		if (full_tag(context, &work, of->offset + TUNNEL_HEADER, of->inner.length))
			return drop(GROUP_UPLINK, outer, UPLINK_BAD_INNER);
	}
	if (work.tag != LOAD64(at + 8)) {
		tell(EVENT_REFUSED, LIMIT_REFUSED, of, key->key_number, UPLINK_BAD_TAG);
		return drop(GROUP_UPLINK, outer, UPLINK_BAD_TAG);
	}
	enum admission admission = window_commit(window, sequence);

	if (admission == ADMITTED_NOT) {
		tell(EVENT_REFUSED, LIMIT_REFUSED, of, key->key_number, UPLINK_REPLAYED);
		return drop(GROUP_UPLINK, outer, UPLINK_REPLAYED);
	}
	__u32 slot = of->slot;
	struct way *way = bpf_map_lookup_elem(&ways, &slot);

	of->key_number = key->key_number;
	of->is_worn = sequence >= of->settings->rekey_after;
	of->is_stray = way && admission == ADMITTED_FRESH &&
		       !is_way(way, &of->outer.source, of->port, key->key_number);
	return UNDECIDED;
}

/* Whether a datagram is the session's own and new. UNDECIDED: it is, and inner and form are filled in. */
static __noinline int admit(struct xdp_md *context, struct datagram *of)
{
	void *at = (void *)(long)context->data + of->offset;
	void *end = (void *)(long)context->data_end;
	int outer = of->outer.version;
	struct receive_key key;

	if (at + 4 > end)
		return XDP_PASS;
	__u8 first = LOAD8(at);
	__u8 type = first >> 4;
	int is_data = type == TYPE_DATA || type == TYPE_DATA_FULL;

	if (!is_data && type != TYPE_CONTROL)
		return drop(GROUP_CONTROL, outer, CONTROL_UNKNOWN_TYPE);
	struct anchor *anchor = anchor_of(of->session);

	if (!anchor || !is_endpoint_of(anchor, &of->outer.destination, outer))
		return pass_datagram(of, outer, PASSED_RACE);
	if (of->now >= deadline_of(&anchor->deadline_ns)) {
		if (is_data)
			return drop(GROUP_UPLINK, outer, UPLINK_ANCHOR_DEADLINE);
		return drop(GROUP_CONTROL, outer, CONTROL_ANCHOR_DEADLINE);
	}
	if (!is_data)
		return control(of, at, end);
	if (of->length < TUNNEL_HEADER || at + TUNNEL_HEADER > end)
		return drop(GROUP_UPLINK, outer, UPLINK_TOO_SHORT);
	/* The slow path may know keys that are not here, and keeps the windows of the other lane. */
	if (!copy_key(of->session, first >> 2 & (PHASES - 1), of->now, &key))
		return pass_datagram(of, outer, PASSED_UNKNOWN_KEY);
	if (first & LANE_FAST)
		return pass_datagram(of, outer, PASSED_OTHER_LANE);
	struct window *window = bpf_map_lookup_elem(&windows, &key.window);

	if (!window)
		return pass_datagram(of, outer, PASSED_RACE);
	if (!window_admits(window, bpf_ntohl(LOAD32(at + 4)))) {
		tell(EVENT_REFUSED, LIMIT_REFUSED, of, key.key_number, UPLINK_REPLAYED);
		return drop(GROUP_UPLINK, outer, UPLINK_REPLAYED);
	}
	if (first & RESERVED)
		return drop(GROUP_UPLINK, outer, UPLINK_BAD_HEADER);
	if (at + TUNNEL_HEADER + 1 > end)
		return drop(GROUP_UPLINK, outer, UPLINK_BAD_INNER);
	if (LOAD8(at + TUNNEL_HEADER) >> 4 == 4)
		return admit_data(context, of, at, end, IPV4, &key, window);
	return admit_data(context, of, at, end, IPV6, &key, window);
}

/* What an inner packet from a shared address teaches: a peer's SPI. */
struct flow {
	__u32 spi;
	__u8 protocol; /* 0: nothing */
};

/* Which of the session's inline leases lets a packet out; below 0 when none does, or not without doubt. */
static __always_inline int lease_for(const struct datagram *of, const struct packet *inner, void *payload, void *end,
				     struct flow *flow)
{
	const struct session *session = of->session;
	__u32 left = inner->length - inner->header;

	flow->protocol = 0;
#pragma unroll
	for (int i = 0; i < SESSION_LEASES; i++) {
		const struct lease *lease = &session->leases[i];
		__u8 flags = *(const volatile __u8 *)&session->lease_flags[i];

		if (!(flags & LEASE_HELD) || (flags & LEASE_SLOW) || !leases_address(lease, &inner->source))
			continue;
		if (of->now >= deadline_of(&lease->until_ns))
			continue;
		if (flags & LEASE_WHOLE)
			return i;
		if (left < 8 || payload + 8 > end)
			return -1;
		switch (inner->protocol) {
		case IPPROTO_TCP:
		case IPPROTO_UDP: {
			__u16 port = bpf_ntohs(LOAD16(payload));
			union found found;

			if ((flags & LEASE_PORTS) && holds_port(lease, port))
				return i;
			/* ESP in UDP, if nobody leases the port itself */
			if (!(flags & LEASE_SPIS) || inner->protocol != IPPROTO_UDP || port != 4500)
				break;
			if (left < UDP_HEADER + 8 || payload + UDP_HEADER + 4 > end ||
			    LOAD32(payload + UDP_HEADER) == 0)
				break;
			if (!look_up(&inner->source, INDEX_ADDRESS, 0, &found) ||
			    !(found.value.flags & INDEX_COMPLETE))
				break;
			__u8 shift = found.value.port_shift;

			if (shift != NO_BLOCKS && look_up(&inner->source, INDEX_PORTS, 4500 >> (shift & 31), &found))
				break;
			flow->spi = bpf_ntohl(LOAD32(payload + UDP_HEADER));
			flow->protocol = IPPROTO_UDP;
			return i;
		}
		case IPPROTO_ESP:
		case IPPROTO_AH:
			if (!(flags & LEASE_SPIS))
				break;
			flow->spi = bpf_ntohl(inner->protocol == IPPROTO_AH ? LOAD32(payload + 4) : LOAD32(payload));
			flow->protocol = inner->protocol;
			return i;
		}
	}
	return -1;
}

/* Whether the destination is somebody's on the public side, and nobody's here. */
static __always_inline int to_public(const struct datagram *of, const struct packet *inner, int version)
{
	union found found;
	__u32 reason = UPLINK_UNROUTABLE_DESTINATION;

	if (look_up(&inner->destination, INDEX_ADDRESS, 0, &found)) {
		if (!(found.value.flags & (INDEX_ENDPOINT | INDEX_HOST)))
			return pass_datagram(of, version, PASSED_HAIRPIN);
		reason = found.value.flags & INDEX_ENDPOINT ? UPLINK_OWN_ENDPOINT : UPLINK_RELAY_HOST;
	} else if (is_routable(&inner->destination, version)) {
		return UNDECIDED;
	}
	tell(EVENT_NOTICE, LIMIT_NOTICE, of, 0, reason);
	return drop(GROUP_UPLINK, version, reason);
}

/* The packet in a datagram that was admitted. */
static __noinline int uplink(struct xdp_md *context, const struct datagram *of)
{
	void *at = (void *)(long)context->data + of->offset + TUNNEL_HEADER;
	void *end = (void *)(long)context->data_end;
	const struct packet *inner = &of->inner;
	int version = inner->version;
	struct flow flow;

	if (of->form != FORM_PLAIN)
		return pass_datagram(of, version, PASSED_FORM);
	if (inner->ttl <= 1)
		return pass_datagram(of, version, PASSED_TTL);
	int lease = lease_for(of, inner, at + inner->header, end, &flow);

	if (lease < 0)
		return pass_datagram(of, version, PASSED_SOURCE);
	__u8 class = egress_inner(of->settings, inner->class, of->outer.class);
	__u32 generation = *(const volatile __u32 *)&of->settings->index_generation;
	struct hop *hop = hop_place(&inner->source, &inner->destination);

	if (!hop)
		return pass_datagram(of, version, PASSED_RACE);
	int known = is_hop(hop, context, version, &inner->source, &inner->destination, class, inner->protocol,
			   inner->length, of->now);

	if (!known || generation == 0 || hop->generation != generation) {
		int verdict = to_public(of, inner, version);

		if (verdict != UNDECIDED)
			return verdict;
	}
	if (is_unheard(inner->class, of->outer.class))
		return pass_datagram(of, version, PASSED_CONGESTION);
	__u32 slot = of->slot;
	struct meter *meter = bpf_map_lookup_elem(&meters, &slot);

	if (!meter)
		return pass_datagram(of, version, PASSED_RACE);
	if (!known && !find_hop(hop, context, of->settings, version, &inner->source, &inner->destination, class,
				inner->protocol, inner->length, of->now))
		return pass_datagram(of, version, PASSED_ROUTE);
	hop->generation = generation;
	/* as decision/: what may go teaches, also when it comes too soon */
	if (flow.protocol != 0)
		tell_flow(slot, of->session, lease, inner, flow.protocol, flow.spi, of->now);
	if (!within_rate(&meter->uplink, inner->length, of->now))
		return drop(GROUP_UPLINK, version, UPLINK_POLICED);

	if (!forward_header(at, end, inner, class))
		return XDP_DROP;
	int removed = of->offset + TUNNEL_HEADER - ETHERNET_HEADER;
	int padding = frame_length(context) - ETHERNET_HEADER - removed - inner->length;

	if (padding > 0 && bpf_xdp_adjust_tail(context, -padding))
		return XDP_DROP;
	if (bpf_xdp_adjust_head(context, removed))
		return XDP_DROP;
	at = (void *)(long)context->data;
	end = (void *)(long)context->data_end;
	if (at + ETHERNET_HEADER > end)
		return XDP_DROP;
	write_ethernet(at, hop, version);
	meter_uplink(meter, inner->length);
	count(GROUP_UPLINK, version, UPLINK_FORWARDED);
	return send_by(context, of->settings, hop);
}

/* What an admitted datagram says of its sender. One that is passed the slow path sees for itself: told as well, it would
 * count for two. */
static __always_inline void tell_sender(struct datagram *of)
{
	if (of->is_stray)
		tell(EVENT_STRAY, LIMIT_STRAY, of, of->key_number, 0);
	if (of->is_worn)
		tell(EVENT_REKEY, LIMIT_REKEY, of, of->key_number, 0);
}

#endif
