/* Where a session's downlink goes, read without a lock while it may be flipped. */
#ifndef MOORING_WAY_H
#define MOORING_WAY_H

#include "maps.h"
#include "packet.h"

/* A writer would have to flip twice within a copy of 40 octets, so often in a row, to outrun a reader. */
#define WAY_TRIES 4

#define PATH_WORDS (sizeof(struct path) / 8)
_Static_assert(sizeof(struct path) % 8 == 0, "copied by words");

/* Copies the path in use. 0 when it changed at every try. */
static __always_inline int copy_path(const struct way *way, struct path *into)
{
#pragma unroll
	for (int i = 0; i < WAY_TRIES; i++) {
		__u64 gen = *(const volatile __u64 *)&way->gen;
		const volatile __u64 *from = (const volatile __u64 *)&way->paths[gen & 1];
		volatile __u64 *to = (volatile __u64 *)into;

#pragma unroll
		for (unsigned int word = 0; word < PATH_WORDS; word++)
			to[word] = from[word];
		if (*(const volatile __u64 *)&way->gen == gen)
			return into->family != 0;
	}
	return 0;
}

static __always_inline int is_open(const struct way *way, __u64 now)
{
	__u32 state = *(const volatile __u32 *)&way->state;

	if (state == WAY_ACTIVE)
		return 1;
	return state == WAY_HOLD && now >= deadline_of(&way->hold_until_ns);
}

/* Whether a datagram came from where downlink goes, under the key that downlink goes by. A guess while it is flipped. */
static __always_inline int is_way(const struct way *way, const struct address *from, __u16 port, __u32 key_number)
{
	const struct path *path = &way->paths[*(const volatile __u64 *)&way->gen & 1];
	const __u64 *address = (const __u64 *)path->address;

	return address[0] == from->high && address[1] == from->low && path->port == port &&
	       path->key_number == key_number;
}

#define SEQUENCE_END 0x80000000 /* the last number under a key, as REKEY_AFTER_PACKETS */

/* The next number of the fast lane under a key; 0 when the key is used up. */
static __always_inline __u32 next_sequence(struct way *way, __u32 key_number)
{
	__u32 *last = &way->last_sequence[key_number & (PHASES - 1)];

	/* read first: adding for ever would come round to numbers that were used */
	if (*(volatile __u32 *)last >= SEQUENCE_END)
		return 0;
	return __sync_fetch_and_add(last, 1) + 1;
}

#endif
