/* The rate of a session: the integers of decision/policing.ts. */
#ifndef MOORING_POLICE_H
#define MOORING_POLICE_H

#include "maps.h"

/* CPUs that change the schedule at once: after so many tries the packet is taken for one too many. */
#define POLICE_TRIES 4

/* Whether a packet of `octets` may go at `now`; then the schedule has moved on. */
static __always_inline int within_rate(struct policer *policer, __u32 octets, __u64 now)
{
	__u64 rate = policer->ns_per_octet_q16;

	if (rate == 0)
		return 1;
	__u64 cost = (octets * rate) >> 16;
	__u64 burst = policer->burst_ns;

	for (int i = 0; i < POLICE_TRIES; i++) {
		__u64 arrival = *(volatile __u64 *)&policer->arrival_ns;
		__u64 next = (arrival > now ? arrival : now) + cost;

		if (next - now > burst)
			return 0;
		if (__sync_val_compare_and_swap(&policer->arrival_ns, arrival, next) == arrival)
			return 1;
	}
	return 0;
}

#endif
