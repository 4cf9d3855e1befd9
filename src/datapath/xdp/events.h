/* What the process is told, seldom: by time for each session, and only while the ring has room. */
#ifndef MOORING_EVENTS_H
#define MOORING_EVENTS_H

#include "maps.h"
#include "packet.h"

/* Units of 2^20 ns, a little more than a millisecond. */
#define EVENT_UNIT 20
#define FLOW_KEPT 57220 /* a minute: how long a learned flow is not reported again */
#define FLOW_YIELDS 954 /* a second: how long it keeps its place from others of the same hash */

/* Whether an event of a kind may be sent, and takes the permission. */
static __always_inline int may_tell(struct session *session, enum event_limit limit, __u64 now)
{
	/* about as often as the userspace engine takes them up: 100, 20, 2 and 1 a second */
	__u32 pause = limit == LIMIT_STRAY ? 10 : limit == LIMIT_REFUSED ? 48 : limit == LIMIT_NOTICE ? 477 : 954;
	__u32 at = now >> EVENT_UNIT;
	__u32 last = *(volatile __u32 *)&session->event_at[limit];

	if (at - last < pause && last != 0)
		return 0;
	*(volatile __u32 *)&session->event_at[limit] = at ? at : 1;
	return 1;
}

static __always_inline struct event *begin_event(enum event_kind kind, __u32 slot, const struct session *session,
						 __u64 now)
{
	struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

	if (!event)
		return 0;
	__builtin_memset(event, 0, sizeof(*event));
	event->at_ns = now;
	event->kind = kind;
	event->slot = slot;
	event->index = session->index;
	return event;
}

static __always_inline void put_address(__u8 *into, const struct address *address)
{
	*(__u64 *)into = address->high;
	*(__u64 *)(into + 8) = address->low;
}

/* Something about a datagram: where it came from and to, and under which key. */
static __always_inline void tell_of(enum event_kind kind, enum event_limit limit, __u32 slot,
				    struct session *session, const struct packet *outer, __u16 port,
				    __u32 key_number, __u32 octets, __u8 reason, __u64 now)
{
	if (!may_tell(session, limit, now))
		return;
	struct event *event = begin_event(kind, slot, session, now);

	if (!event)
		return;
	put_address(event->source, &outer->source);
	put_address(event->destination, &outer->destination);
	event->port = port;
	event->key_number = key_number;
	event->octets = octets;
	event->reason = reason;
	bpf_ringbuf_submit(event, 0);
}

/* ESP or AH to a peer from a shared address. */
static __always_inline void tell_flow(__u32 slot, const struct session *session, __u8 lease,
				      const struct packet *inner, __u8 protocol, __u32 spi, __u64 now)
{
	__u32 at = now >> EVENT_UNIT;
	/* by the session's id: what its slot's last owner taught says nothing of it */
	__u64 mixed = (inner->destination.low ^ inner->destination.high ^ (__u64)spi << 17 ^
		       *(const __u64 *)session->id ^ protocol) *
		      0x9e3779b97f4a7c15ULL;
	__u32 hash = mixed >> 32;
	/* by the high bits: the low ones hold nothing of an SPI's first bits, nor of the slot's */
	__u32 place = hash >> (32 - REPORTED_BITS);
	struct reported *known = bpf_map_lookup_elem(&reported, &place);

	if (!known)
		return;
	if (at - known->at < (known->hash == hash ? FLOW_KEPT : FLOW_YIELDS) && known->at != 0)
		return;
	known->hash = hash;
	known->at = at ? at : 1;
	struct event *event = begin_event(EVENT_LEARNED, slot, session, now);

	if (!event)
		return;
	put_address(event->source, &inner->source);
	put_address(event->destination, &inner->destination);
	event->spi = spi;
	event->protocol = protocol;
	event->lease = lease;
	bpf_ringbuf_submit(event, 0);
}

#endif
