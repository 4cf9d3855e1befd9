-- Refusals. A command answers one of these integers and has changed nothing but, where its header says so,
-- its own idempotency record. The generator copies the table into TypeScript.
local UNDECLARED = -1
local OWNED_BY_ANOTHER = -2
local STALE_EPOCH = -3
local NO_OWNER = -4
local EXHAUSTED = -5
local BAD_BIND = -6
local KIND_NOT_OFFERED = -7
local LEASES_WOULD_BE_ORPHANED = -8
local WITHDRAWN = -9
local NOT_PENDING = -10
local REQUEST_ENDED = -11
local NOT_HOME = -12
local QUOTA = -13
local QUARANTINED = -16
local REMOTE_FAMILY = -15
local PLAN_MOVED = -17
local INDEX_BEHIND = -18
local UNTOLD = -20
local RESTORING = -21
local ADDRESS_INUSE = -30
local ADDRESS_UNALLOWED = -31
local PORTS_INUSE = -32
local PORTS_UNALLOWED = -33
local SPIS_INUSE = -34
local SPIS_UNAVAILABLE = -35
local PORTS_UNAVAILABLE = -36
