--- @include "anchor"
-- How many leases each tenant's devices hold here and may hold, where the pool limits its tenants: META has the limit, TENANTS
-- has for a tenant <used> <allowed> <number> <epoch>. What is allowed was dealt to this anchor from the tenant's own slot
-- (tenant.lua), under that epoch: another epoch calls it in, so what a fail-over has lost of it allows nothing. The number
-- is another one after every change of what is allowed: whatever was dealt by the word of an older one comes too late.

-- Arguments that Lua unpacks with ease.
local FIELDS_AT_ONCE = 2048

local function tenantOf(device)
  return string.match(device, '^[^/]*')
end

-- Above all that were taken here before, also where those were lost.
local function nextNumber()
  return whole(math.max(tonumber(redis.call('HGET', META, 'allowanceNumber') or 0) + 1, now))
end

local function takeNumber()
  local number = nextNumber()
  redis.call('HSET', META, 'allowanceNumber', number)
  return number
end

-- A number of 0: nothing was dealt for it under this epoch.
local function allowanceOf(tenant)
  local used, allowed, number, epoch =
    string.match(redis.call('HGET', TENANTS, tenant) or '0 0 0 0', '^(%d+) (%d+) (%d+) (%d+)$')
  local isCurrent = epoch == redis.call('HGET', META, 'epoch')
  return {
    used = tonumber(used),
    allowed = isCurrent and tonumber(allowed) or 0,
    number = isCurrent and number or '0',
  }
end

local function saveAllowance(tenant, allowance)
  local epoch = redis.call('HGET', META, 'epoch')
  local words = { whole(allowance.used), whole(allowance.allowed), allowance.number, epoch }
  redis.call('HSET', TENANTS, tenant, table.concat(words, ' '))
end

-- One lease more (1) or less (-1). A tenant that holds nothing is forgotten, and what it was allowed with it: less than was dealt does
-- no harm.
local function countLease(device, more)
  if redis.call('HEXISTS', META, 'maxLeasesPerTenant') == 0 then
    return
  end
  local tenant = tenantOf(device)
  local allowance = allowanceOf(tenant)
  allowance.used = allowance.used + more
  if allowance.used > 0 then
    saveAllowance(tenant, allowance)
  else
    redis.call('HDEL', TENANTS, tenant)
  end
end

-- Begins to count, or ends ('' for `most`). Of a new limit everything is dealt anew.
local function limitTenants(most)
  redis.call('UNLINK', TENANTS)
  if most == '' then
    redis.call('HDEL', META, 'maxLeasesPerTenant')
    return
  end
  redis.call('HSET', META, 'maxLeasesPerTenant', most)
  local used = {}
  for _, record in ipairs(redis.call('HVALS', LEASES)) do
    local tenant = tenantOf(record)
    used[tenant] = (used[tenant] or 0) + 1
  end
  local fields = {}
  for tenant, count in pairs(used) do
    fields[#fields + 1] = tenant
    fields[#fields + 1] = whole(count) .. ' 0 0 0'
    if #fields == FIELDS_AT_ONCE then
      redis.call('HSET', TENANTS, unpack(fields))
      fields = {}
    end
  end
  if #fields > 0 then
    redis.call('HSET', TENANTS, unpack(fields))
  end
end
