--- @include "anchor"
-- Records as they are stored and as they cross: words with a space between them, '-' for none; records.ts has the same.
--   lease    device slot address ports spis ikeSpis remote pendingUntilMs expiresAtMs fence bindId
--            blocks as <first>/<width>: 2^width values; the remote as <address>,<port>; pendingUntilMs until it is installed
--   session  index id thumbprint salt replaced leases, these with commas
-- What the key, the anchor or its plan says is not said again: a lease's id is <anchor>.<its field>, its session is its
-- device's, its kind what it has. Ids and salts of sessions are base64url.
local LEASE_WORDS = '^' .. string.rep('(%S+) ', 10) .. '(%S+)$'
local SESSION_WORDS = '^' .. string.rep('(%S+) ', 5) .. '(%S+)$'
local ANCHOR_NAME = string.match(META, '{a:(.*)}')

-- The name of a lease on its anchor.
local function nameOf(id)
  return string.sub(id, #ANCHOR_NAME + 2)
end

-- What stands for the request in it (request-mark.ts).
local function markOf(name)
  return string.sub(name, 1, 11)
end

local function encodeLease(lease)
  local pending = lease.state == 'pending' and whole(lease.pendingUntilMs) or '-'
  return table.concat({
    lease.device, lease.slot, lease.address, lease.ports, lease.spis, lease.ikeSpis, lease.remote, pending,
    whole(lease.expiresAtMs), lease.fence, whole(lease.bindId),
  }, ' ')
end

local function decodeLease(name, record)
  local device, slot, address, ports, spis, ikeSpis, remote, pending, expires, fence, bindId =
    string.match(record, LEASE_WORDS)
  return {
    id = ANCHOR_NAME .. '.' .. name,
    device = device,
    slot = slot,
    address = address,
    ports = ports,
    spis = spis,
    ikeSpis = ikeSpis,
    remote = remote,
    state = pending == '-' and 'active' or 'pending',
    pendingUntilMs = tonumber(pending),
    expiresAtMs = tonumber(expires),
    fence = fence,
    bindId = tonumber(bindId),
  }
end

local function encodeSession(session)
  return table.concat({
    session.index, session.id, session.thumbprint, session.salt, session.replaces, table.concat(session.leases, ','),
  }, ' ')
end

-- `leases` are names.
local function decodeSession(device, record)
  local index, id, thumbprint, salt, replaces, named = string.match(record, SESSION_WORDS)
  local leases = {}
  for name in string.gmatch(named, '[^,]+') do
    leases[#leases + 1] = name
  end
  return {
    device = device,
    index = index,
    id = id,
    thumbprint = thumbprint,
    salt = salt,
    replaces = replaces,
    leases = leases,
  }
end

-- A session as it crosses: its device before its record.
local function shownSession(session)
  return session.device .. ' ' .. encodeSession(session)
end

-- A lease as it crosses: <id> <pool> <session id> before its record. Whose it is.
local function deviceShown(text)
  return string.match(text, '^%S+ %S+ %S+ (%S+)')
end
