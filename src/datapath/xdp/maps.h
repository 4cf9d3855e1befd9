/* The maps. Arrays are changed in place and mapped into the process; what the program locks is not mapped. */
#ifndef MOORING_MAPS_H
#define MOORING_MAPS_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "layout.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct config);
} config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, struct index_key);
	__type(value, struct index_value);
} index SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct anchor);
} anchors SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct session);
} sessions SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct way);
} ways SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct window);
} windows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct meter);
} meters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, GROUPS * 2 * COUNTS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

#define REPORTED_BITS 14
#define REPORTED (1 << REPORTED_BITS)

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, REPORTED);
	__type(key, __u32);
	__type(value, struct reported);
} reported SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps");

/* Emits what no map mentions into BTF, where the process reads them. */
struct names {
	enum layout_version layout_version;
	enum dscp_mode dscp_mode;
	enum ecn_mode ecn_mode;
	enum index_kind index_kind;
	enum index_flag index_flag;
	enum session_state session_state;
	enum lease_flag lease_flag;
	enum event_limit event_limit;
	enum way_state way_state;
	enum count_group count_group;
	enum count_family count_family;
	enum downlink_count downlink_count;
	enum uplink_count uplink_count;
	enum control_count control_count;
	enum passed_count passed_count;
	enum event_kind event_kind;
	struct event event;
};

const volatile struct names names SEC(".rodata") = {};

#endif
