/*
 * What the XDP program and the process that programs it share: every map, every structure in it, every name.
 *
 * The process reads member offsets and enumerators by name from the object's BTF, so this file is their only
 * source. A change that gives a member another meaning raises LAYOUT_VERSION; a program that finds another
 * version in its configuration than its own decides nothing.
 *
 * Addresses are 16 octets, IPv4 as ::ffff:a.b.c.d. Numbers are in host order except where "BE" is said. Times
 * are nanoseconds of the boottime clock. A member called `..._ns` that is 0 is long past.
 */
#ifndef MOORING_LAYOUT_H
#define MOORING_LAYOUT_H

#include <linux/types.h>

#define MAGIC 0x676e69726f6f4d31ULL /* "1Mooring" as octets in memory */
#ifdef MOORING_NEXT_LAYOUT
/* A build to try upgrades with: another version, and members elsewhere than in this one. */
#define LAYOUT_VERSION 2
#define NEXT_MEMBER __u64 of_the_next_layout;
#else
#define LAYOUT_VERSION 1
#define NEXT_MEMBER
#endif

/* Map sizes here are the least that loads: the process sets its own before it loads the object. */

enum layout_version {
	LAYOUT_MAGIC_LOW = MAGIC & 0xffffffff,
	LAYOUT_MAGIC_HIGH = MAGIC >> 32,
	LAYOUT_VERSION_NUMBER = LAYOUT_VERSION,
};

/* --- config: one element ------------------------------------------------------------------------------ */

/* What becomes of DSCP where a header is put on or taken off (RFC 2983). */
enum dscp_mode {
	DSCP_COPY, /* the other header's value: outer from inner, inner from outer */
	DSCP_KEEP, /* inner: as it is; outer: the configured value */
	DSCP_REWRITE, /* both: the configured value */
};

/* Of the outer header where one is put on (RFC 6040 §4.3); the table of §4.2 holds where it is taken off. */
enum ecn_mode {
	ECN_COMPATIBLE, /* Not-ECT */
	ECN_NORMAL, /* as the inner one */
};

/* An interface that the program is attached to or may send to. */
struct port {
	__u32 ifindex; /* 0: no more of them */
	__u8 mac[6]; /* frames to other addresses are not ours */
	__u8 pad[2];
};

#define PORTS 8

struct config {
	__u64 magic; /* written last, cleared first: without it everything is passed to the kernel */
	__u32 layout_version;
	__u16 tunnel_port;
	__u16 inner_mtu;
	/* Moved on by the living process. When it is past, nothing is passed to the tunnel's port: the kernel would
	 * answer devices that the port is closed. */
	__u64 alive_until_ns;
	/* Downlink packets under one key after which the process is told. */
	__u32 rekey_after;
	__u8 ingress_dscp_mode; /* into the tunnel; enum dscp_mode */
	__u8 ingress_dscp; /* 0 to 63 */
	__u8 egress_dscp_mode; /* out of it */
	__u8 egress_dscp;
	__u8 ingress_ecn_mode; /* enum ecn_mode */
	/* Nothing goes back out of an interface by XDP_TX: a veth wakes the receiver of such frames only where that runs
	 * XDP itself, that of redirected ones also where it merely has GRO on. */
	__u8 redirect_only;
	__u8 pad[2];
	/* Raised after every change of an ADDRESS in the index, never 0 again: what was looked up under it holds. 0: look up. */
	__u32 index_generation;
	struct port ports[PORTS];
	__u64 test_now_ns; /* read only by objects compiled with MOORING_TEST_CLOCK */
};

/* --- index: who an address, a port block, an SPI block or a session index belongs to --------------------- */

enum index_kind {
	INDEX_ADDRESS = 1, /* number 0 */
	INDEX_PORTS = 2, /* number = port >> port_shift of the address */
	INDEX_SPIS = 3, /* number = SPI >> spi_shift of the address */
	INDEX_SESSION = 4, /* address = tunnel endpoint, number = session index */
};

struct index_key {
	__u8 address[16];
	__u32 number; /* BE */
	__u8 kind; /* enum index_kind */
	__u8 pad[3]; /* zero */
};

enum index_flag {
	INDEX_WHOLE = 1, /* ADDRESS: leased as a whole; slot and lease say to whom */
	INDEX_SHARED = 2, /* ADDRESS: leased in blocks; the shifts say how large */
	INDEX_COMPLETE = 4, /* SHARED: every block of it is in the index: a miss is a drop */
	INDEX_ENDPOINT = 8, /* ADDRESS: a tunnel endpoint; slot is its anchor's */
	INDEX_HOST = 16, /* ADDRESS: of the relay's own host */
};

#define NO_BLOCKS 0xff /* a shift: nothing of the kind is leased on the address */

/* Read as one 64-bit value. The reader verifies at `slot` that it is meant: elements of a hash are recycled. */
struct index_value {
	__u32 slot; /* session; of an ENDPOINT its anchor */
	__u8 flags; /* enum index_flag */
	__u8 port_shift;
	__u8 spi_shift;
	__u8 lease; /* which of the session's leases */
};

/* --- anchors --------------------------------------------------------------------------------------------- */

struct anchor {
	NEXT_MEMBER
	__u64 deadline_ns;
	__u64 epoch;
	__u8 endpoint_v4[16]; /* zero: none */
	__u8 endpoint_v6[16];
	char id[32]; /* zero-padded */
};

/* --- sessions -------------------------------------------------------------------------------------------- */

enum session_state {
	SESSION_EMPTY = 0,
	SESSION_LIVE = 1,
};

/*
 * A DATA key that uplink is received under. `version` is odd while the rest is being written; a reader that
 * sees it odd or changed passes the packet.
 */
struct receive_key {
	__u32 version;
	__u32 key_number;
	__u64 until_ns; /* ~0: in force; 0: none */
	__u64 key[2]; /* the 16 octets of the SipHash key as they are */
	__u32 window; /* slot in windows */
	__u32 pad;
};

enum lease_flag {
	LEASE_HELD = 1,
	LEASE_WHOLE = 2,
	LEASE_PORTS = 4,
	LEASE_SPIS = 8, /* ESP, AH and UDP 500/4500 are allowed */
	LEASE_SLOW = 16, /* a policy that only the slow path holds: passed */
};

/* Written while its flags (in the session) are 0; only `until_ns` changes afterwards. */
struct lease {
	__u8 address[16];
	__u64 until_ns;
	__u32 first_spi;
	__u16 first_port;
	__u8 port_shift; /* 2^shift ports, SPIs */
	__u8 spi_shift;
};

#define SESSION_LEASES 2
#define SESSION_KEYS 2
#define PHASES 4

/* Which of a session's events are limited together. */
enum event_limit {
	LIMIT_STRAY,
	LIMIT_REFUSED,
	LIMIT_NOTICE,
	LIMIT_REKEY,
	LIMITS,
};

struct session {
	NEXT_MEMBER
	__u32 state; /* enum session_state; written last, cleared first */
	__u32 index; /* session index on the wire */
	__u32 anchor; /* slot */
	__u8 lease_flags[SESSION_LEASES]; /* enum lease_flag */
	__u8 pad[2];
	__u64 control_key[2]; /* SipHash key of CONTROL to the relay */
	struct receive_key receive[SESSION_KEYS];
	struct lease leases[SESSION_LEASES];
	__u32 event_at[LIMITS]; /* written by the program: when the last event of the kind was (units of 2^20 ns) */
	/* The rest is for whoever goes on after this process. */
	__u8 id[16];
	__u64 device_boot;
	__u64 relay_boot; /* of the key that the device is sent DATA under */
	__u64 epoch; /* of that key */
	__u32 slow_sequence; /* of lane 0 under that key: none from here on was used */
	__u32 reserved;
	__u32 generation;
	__u32 rtt_us;
};

/* --- ways: where a session's downlink goes --------------------------------------------------------------- */

enum way_state {
	WAY_NONE = 0, /* passed */
	WAY_ACTIVE = 1,
	WAY_HOLD = 2, /* passed until hold_until_ns, then as ACTIVE */
};

/* One of the two places of a way. */
struct path {
	__u8 address[16];
	__u64 key[2]; /* of DATA to the device */
	__u32 key_number;
	__u16 port;
	__u8 family; /* 4 or 6; 0: nothing here */
	__u8 pad;
};

/*
 * The writer fills paths[(gen + 1) & 1] and then stores gen + 1. A reader copies paths[gen & 1] and reads gen
 * again: unless it is the same, it tries again.
 */
struct way {
	NEXT_MEMBER
	__u64 gen;
	struct path paths[2];
	__u64 hold_until_ns;
	__u32 state; /* enum way_state */
	/* The sequence used last in the fast lane, by key_number & 3; the next one is fetched by an atomic add. */
	__u32 last_sequence[PHASES];
	__u32 pad;
};

/* --- windows: replay windows of the packets that the program admitted, one per receiving key ------------- */

#define WINDOW_BITS 4096

/* Bit n & 4095 of the ring says that n was received, for n from highest − 4095 to highest. */
struct window {
	struct bpf_spin_lock lock;
	__u32 highest;
	__u64 ring[WINDOW_BITS / 64];
};

/* --- meters: by session slot ------------------------------------------------------------------------------ */

/* A rate as a virtual schedule (GCRA): a packet that would bring the theoretical arrival time more than the
 * burst ahead of now is dropped. */
struct policer {
	__u64 arrival_ns; /* the one number that packets change */
	__u64 ns_per_octet_q16; /* 0: unlimited */
	__u64 burst_ns;
};

struct meter {
	__u64 uplink_packets;
	__u64 uplink_octets; /* of inner packets */
	__u64 downlink_packets;
	__u64 downlink_octets;
	struct policer uplink;
	struct policer downlink;
};

/* --- counters: one 64-bit number per CPU at (group * 2 + family) * COUNTS + reason ------------------------- */

enum count_group {
	GROUP_DOWNLINK,
	GROUP_UPLINK,
	GROUP_CONTROL,
	GROUP_PASSED, /* given to the kernel for the slow path, which counts what becomes of it */
	GROUPS,
};

/* Of the inner packet; of CONTROL and what has none, of the outer. */
enum count_family {
	FAMILY_V4,
	FAMILY_V6,
};

/* Names as in decision/verdict.ts: lower case, hyphens, without the prefix. */
enum downlink_count {
	DOWNLINK_FORWARDED,
	DOWNLINK_UNLEASED_PORT,
	DOWNLINK_UNLEASED_SPI,
	DOWNLINK_EXPIRED,
	DOWNLINK_ANCHOR_DEADLINE,
	DOWNLINK_KEY_EXHAUSTED,
	DOWNLINK_POLICED,
	DOWNLINK_COUNTS,
};

enum uplink_count {
	UPLINK_FORWARDED,
	UPLINK_TOO_SHORT,
	UPLINK_BAD_HEADER,
	UPLINK_BAD_INNER,
	UPLINK_CLASS_MISMATCH,
	UPLINK_REPLAYED,
	UPLINK_BAD_TAG,
	UPLINK_ANCHOR_DEADLINE,
	UPLINK_OWN_ENDPOINT,
	UPLINK_RELAY_HOST,
	UPLINK_UNROUTABLE_DESTINATION,
	UPLINK_POLICED,
	UPLINK_COUNTS,
};

enum control_count {
	CONTROL_BAD_LENGTH,
	CONTROL_BAD_TYPE,
	CONTROL_BAD_TAG,
	CONTROL_UNKNOWN_TYPE,
	CONTROL_ANCHOR_DEADLINE,
	CONTROL_PROCESS_AWAY,
	CONTROL_COUNTS,
};

/* Why the program left a packet that is Mooring's to the slow path. */
enum passed_count {
	PASSED_CONTROL, /* authentic: the state machine's */
	PASSED_ENDPOINT, /* to a tunnel endpoint, of no session in the index */
	PASSED_UNKNOWN_KEY,
	PASSED_OTHER_LANE,
	PASSED_FORM, /* options, extension headers, fragments */
	PASSED_PROTOCOL, /* ICMP, IKE and others */
	PASSED_MISS, /* a block that the index does not hold */
	PASSED_POLICY,
	PASSED_HELD,
	PASSED_TTL,
	PASSED_SIZE,
	PASSED_ROUTE, /* no route, neighbour or room on the link that the program can use */
	PASSED_HAIRPIN,
	PASSED_SOURCE, /* inner source outside the session's inline leases, or those are over */
	PASSED_CONGESTION, /* congestion that the inner header cannot say (RFC 6040 §4.2) */
	PASSED_RACE, /* state that changed too fast to be read */
	PASSED_HEADROOM,
	PASSED_COUNTS,
};

#define COUNTS 32

/* --- events ---------------------------------------------------------------------------------------------- */

enum event_kind {
	EVENT_STRAY = 1, /* fresh DATA from elsewhere than the way's path, or under another key than it sends by */
	EVENT_REFUSED, /* DATA that no key or window admits */
	EVENT_NOTICE, /* uplink dropped: `reason` is an uplink_count that the device is told about */
	EVENT_REKEY, /* `key_number` is nearly used up */
	EVENT_LEARNED, /* ESP or AH left a shared address: peer's SPI for ICMP errors */
};

/* Every event has this form; what a kind does not say is zero. */
struct event {
	__u64 at_ns;
	__u32 kind; /* enum event_kind */
	__u32 slot; /* session */
	__u32 index; /* its session index: the slot may have been given away since */
	__u32 key_number;
	__u32 octets; /* of the datagram */
	__u32 spi;
	__u8 source[16]; /* STRAY, REFUSED: where the datagram came from. LEARNED: inner source */
	__u8 destination[16]; /* LEARNED: inner destination. Others: the endpoint it came to */
	__u16 port; /* source port of the datagram */
	__u8 protocol; /* LEARNED: 50, 51, or 17 for ESP in UDP */
	__u8 reason;
	__u8 lease; /* LEARNED: which of the session's leases */
	__u8 pad[3];
};

/* A flow that was reported lately: hash of (session, protocol, SPI, peer) and when (units of 2^20 ns). */
struct reported {
	__u32 hash;
	__u32 at;
};

#endif
