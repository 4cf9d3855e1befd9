/* The replay window of src/tunnel/window.ts: exact over the last 4,096 numbers. */
#ifndef MOORING_WINDOW_H
#define MOORING_WINDOW_H

#include "maps.h"

#define RING_WORDS (WINDOW_BITS / 64)

static __always_inline int is_set(const struct window *window, __u32 number)
{
	return window->ring[(number >> 6) & (RING_WORDS - 1)] >> (number & 63) & 1;
}

/* Whether a number is neither received before nor older than the window. Without the lock only a first guess. */
static __always_inline int window_admits(const struct window *window, __u32 number)
{
	__u32 highest = window->highest;

	if (number > highest)
		return 1;
	if (number == 0 || highest - number >= WINDOW_BITS)
		return 0;
	return !is_set(window, number);
}

/* Bits from..to of a word, 0 ≤ from ≤ to ≤ 63. */
static __always_inline __u64 bits(__u32 from, __u32 to)
{
	return (~0ULL << from) & (~0ULL >> (63 - to));
}

/* Clears what the ring says of the numbers above `highest` up to and including `number`. */
static __always_inline void window_advance(struct window *window, __u32 number)
{
	__u32 first = window->highest + 1;
	__u32 word = first >> 6;
	__u32 last = number >> 6;

	if (number - window->highest >= WINDOW_BITS) {
#pragma clang loop unroll(disable)
		for (__u32 i = 0; i < RING_WORDS; i++)
			window->ring[i] = 0;
	} else if (word == last) {
		window->ring[word & (RING_WORDS - 1)] &= ~bits(first & 63, number & 63);
	} else {
		window->ring[word & (RING_WORDS - 1)] &= ~bits(first & 63, 63);
#pragma clang loop unroll(disable)
		for (__u32 i = 0; i < RING_WORDS; i++) {
			word += 1;
			if (word == last)
				break;
			window->ring[word & (RING_WORDS - 1)] = 0;
		}
		window->ring[last & (RING_WORDS - 1)] &= ~bits(0, number & 63);
	}
	window->highest = number;
}

enum admission {
	ADMITTED_LATE, /* not the newest of its lane */
	ADMITTED_FRESH,
	ADMITTED_NOT,
};

/* Remembers a number whose tag verified, unless another CPU did meanwhile. */
static __always_inline enum admission window_commit(struct window *window, __u32 number)
{
	enum admission admission = ADMITTED_NOT;

	bpf_spin_lock(&window->lock);
	if (window_admits(window, number)) {
		admission = number > window->highest ? ADMITTED_FRESH : ADMITTED_LATE;
		if (admission == ADMITTED_FRESH)
			window_advance(window, number);
		window->ring[(number >> 6) & (RING_WORDS - 1)] |= 1ULL << (number & 63);
	}
	bpf_spin_unlock(&window->lock);
	return admission;
}

#endif
