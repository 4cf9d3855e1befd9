/* From an address or a number to what is kept about it. What a hash says is verified at the place that it names. */
#ifndef MOORING_LOOKUP_H
#define MOORING_LOOKUP_H

#include "maps.h"
#include "packet.h"

/* An index value as it was read: one load, so never half of another one. */
union found {
	__u64 all;
	struct index_value value;
};

static __always_inline int look_up(const struct address *address, enum index_kind kind, __u32 number,
				   union found *into)
{
	/* as 64-bit words, in the octets of struct index_key */
	__u64 key[3] = { address->high, address->low, (__u64)kind << 32 | bpf_htonl(number) };
	__u64 *value = bpf_map_lookup_elem(&index, key);

	if (!value)
		return 0;
	into->all = *(volatile __u64 *)value;
	return 1;
}

_Static_assert(sizeof(struct index_key) == 24, "look_up() writes the key as three words");

static __always_inline struct session *live_session(__u32 slot)
{
	struct session *session = bpf_map_lookup_elem(&sessions, &slot);

	return session && *(volatile __u32 *)&session->state == SESSION_LIVE ? session : 0;
}

static __always_inline struct anchor *anchor_of(const struct session *session)
{
	__u32 slot = session->anchor;

	return bpf_map_lookup_elem(&anchors, &slot);
}

static __always_inline int is_endpoint_of(const struct anchor *anchor, const struct address *address, int version)
{
	const __u64 *endpoint = (const __u64 *)(version == IPV4 ? anchor->endpoint_v4 : anchor->endpoint_v6);

	return endpoint[0] == address->high && endpoint[1] == address->low;
}

static __always_inline int leases_address(const struct lease *lease, const struct address *address)
{
	const __u64 *leased = (const __u64 *)lease->address;

	return leased[0] == address->high && leased[1] == address->low;
}

static __always_inline int holds_port(const struct lease *lease, __u16 port)
{
	return (__u32)(port - lease->first_port) >> (lease->port_shift & 31) == 0;
}

static __always_inline int holds_spi(const struct lease *lease, __u32 spi)
{
	return (spi - lease->first_spi) >> (lease->spi_shift & 31) == 0;
}

static __always_inline __u64 deadline_of(const __u64 *deadline_ns)
{
	return *(const volatile __u64 *)deadline_ns;
}

static __always_inline __u64 clock_ns(const struct config *settings)
{
#ifdef MOORING_TEST_CLOCK
	return *(const volatile __u64 *)&settings->test_now_ns;
#else
	(void)settings;
	return bpf_ktime_get_boot_ns();
#endif
}

#endif
