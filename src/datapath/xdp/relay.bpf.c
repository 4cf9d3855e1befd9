/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
#include "maps.h"

SEC("xdp")
int relay(struct xdp_md *context)
{
	(void)context;
	__u32 zero = 0;
	struct config *settings = bpf_map_lookup_elem(&config, &zero);

	if (settings == 0 || settings->magic != MAGIC || settings->layout_version != LAYOUT_VERSION)
		return XDP_PASS;
	/* keep every map in the object until the program uses it */
	bpf_map_lookup_elem(&index, &(struct index_key){});
	return XDP_PASS;
}

char _license[] SEC("license") = "GPL";
