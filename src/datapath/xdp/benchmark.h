/*
 * Programs for measuring: each does what `relay` does and then makes the frame, the replay window and the policer what they
 * were, so that BPF_PROG_TEST_RUN can repeat them on one frame. The `..._frame` ones only do the latter: what is to be
 * subtracted. Compiled in by MOORING_BENCHMARK; the object that ships has none of it.
 */
#ifndef MOORING_BENCHMARK_H
#define MOORING_BENCHMARK_H

#define SAVED 10 /* words: outer headers, tunnel header and an inner header's TTL */

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64[SAVED + 3]);
} saved_frame SEC(".maps");

static __always_inline int save(struct xdp_md *context, __u64 *saved, int words)
{
	void *at = (void *)(long)context->data;

	if (at + words * 8 > (void *)(long)context->data_end)
		return 0;
	for (int i = 0; i < words; i++)
		saved[i] = LOAD64(at + i * 8);
	return 1;
}

static __always_inline int restore(struct xdp_md *context, const __u64 *saved, int words, int by)
{
	if (bpf_xdp_adjust_head(context, by))
		return 0;
	void *at = (void *)(long)context->data;

	if (at + words * 8 > (void *)(long)context->data_end)
		return 0;
	for (int i = 0; i < words; i++)
		LOAD64(at + i * 8) = saved[i];
	return 1;
}

/* As if window 0 had received nothing: of use while the frame has the sequence 1. */
static __always_inline void forget(void)
{
	__u32 zero = 0;
	struct window *window = bpf_map_lookup_elem(&windows, &zero);

	if (window) {
		window->highest = 0;
		window->ring[0] = 0;
	}
}

#define MEASURE(name, words, by, act)                                                                              \
	SEC("xdp")                                                                                                 \
	int name(struct xdp_md *context)                                                                           \
	{                                                                                                          \
		__u32 zero = 0;                                                                                    \
		__u64 *saved = bpf_map_lookup_elem(&saved_frame, &zero);                                           \
		int verdict;                                                                                       \
                                                                                                                   \
		if (!saved || !save(context, saved, words))                                                                  \
			return XDP_ABORTED;                                                                        \
		forget();                                                                                          \
		verdict = act;                                                                                     \
		if (verdict != XDP_TX && verdict != XDP_REDIRECT)                                                  \
			return verdict;                                                                            \
		return restore(context, saved, words, by) ? verdict : XDP_ABORTED;                                 \
	}

#define ADJUST(by) (bpf_xdp_adjust_head(context, by) ? XDP_ABORTED : XDP_TX)

/* Outer IPv4, outer IPv6 */
MEASURE(bench_downlink, 5, OUTER(IPV4), decide(context))
MEASURE(bench_downlink_frame, 5, OUTER(IPV4), ADJUST(-OUTER(IPV4)))
MEASURE(bench_uplink, SAVED, -OUTER(IPV4), decide(context))
MEASURE(bench_uplink_frame, SAVED, -OUTER(IPV4), ADJUST(OUTER(IPV4)))
MEASURE(bench_downlink_6, 5, OUTER(IPV6), decide(context))
MEASURE(bench_uplink_6, SAVED + 3, -OUTER(IPV6), decide(context))

#endif
