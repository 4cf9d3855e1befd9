/* Counting: packets by direction, family and what became of them, on the CPU that saw them. */
#ifndef MOORING_COUNTERS_H
#define MOORING_COUNTERS_H

#include "maps.h"
#include "packet.h"

#define UNDECIDED -1 /* else a verdict of XDP */

static __always_inline void count(enum count_group group, int version, __u32 reason)
{
	__u32 at = (group * 2 + (version == IPV4 ? FAMILY_V4 : FAMILY_V6)) * COUNTS + reason;
	__u64 *packets = bpf_map_lookup_elem(&counters, &at);

	if (packets)
		*packets += 1;
}

static __always_inline int drop(enum count_group group, int version, __u32 reason)
{
	count(group, version, reason);
	return XDP_DROP;
}

static __always_inline int pass(int version, enum passed_count reason)
{
	count(GROUP_PASSED, version, reason);
	return XDP_PASS;
}

static __always_inline void meter_uplink(struct meter *meter, __u32 octets)
{
	__sync_fetch_and_add(&meter->uplink_packets, 1);
	__sync_fetch_and_add(&meter->uplink_octets, octets);
}

static __always_inline void meter_downlink(struct meter *meter, __u32 octets)
{
	__sync_fetch_and_add(&meter->downlink_packets, 1);
	__sync_fetch_and_add(&meter->downlink_octets, octets);
}

#endif
