-- What is done to the record of a session; stands before the scripts that do it.
-- A user's hash has three fields for each session: its fixed part under the id, its accesses under
-- the id and `a` (last accessed, deadline, claimed, addresses), its details under the id and `d`.

-- Larger numbers are not exact. A deadline that is none is the largest of all.
local NEVER = 2 ^ 53

-- None where they are not there or cannot be read.
local function read_accesses(user, id)
  local text = redis.call('HGET', user, id .. 'a') or ''
  local last, deadline, claimed, addresses = string.match(text, '^(%S+) (%S+) (%S+) (.*)$')
  if not (tonumber(last) and tonumber(deadline)) then return nil end
  return { last = last, deadline = deadline, claimed = claimed, addresses = addresses }
end

local function write_accesses(user, id, accesses)
  local parts = { accesses.last, accesses.deadline, accesses.claimed, accesses.addresses }
  redis.call('HSET', user, id .. 'a', table.concat(parts, ' '))
end

-- Lets the user's hash last until a margin (us) after a deadline, and at least so long from now.
local function keep(user, deadline, now, margin, is_fresh)
  local lasts = math.max(tonumber(deadline), now) + margin
  local at = string.format('%.0f', math.floor(lasts / 1000))
  if lasts >= NEVER then
    redis.call('PERSIST', user)
  elseif is_fresh then
    redis.call('PEXPIREAT', user, at)
  else
    redis.call('PEXPIREAT', user, at, 'GT')
  end
end

-- Moves the deadline to a later one. `keys`: user, due; `member`: of the session in `due`.
local function raise_deadline(keys, accesses, member, deadline, now, margin)
  if tonumber(deadline) <= tonumber(accesses.deadline) then return end
  accesses.deadline = deadline
  redis.call('ZADD', keys.due, 'XX', deadline, member)
  keep(keys.user, deadline, now, margin, false)
end

local function remember_in(index, member, lasts)
  redis.call('ZADD', index, 0, member)
  if redis.call('PTTL', index) < lasts then redis.call('PEXPIRE', index, lasts) end
end

-- The place of what ended at a time (us): later is smaller.
local function place_of(ended, id)
  local high = math.floor(ended / 2 ^ 32)
  return struct.pack('>I4I4', 2 ^ 31 - 1 - high, 2 ^ 32 - 1 - (ended - high * 2 ^ 32)) .. id
end

-- Takes a record that is replaced out of the indexes. A copy that was made key by key may have a session
-- with the record of its end.
local function displace(keys, id, owner, record)
  local ended = tonumber(string.match(record, '.*"ended":(%-?%d+)'))
  if not ended then return end
  local place = place_of(ended, id)
  redis.call('ZREM', keys.history, place .. owner)
  redis.call('ZREM', keys.by_user, place)
  if keys.by_tenant ~= keys.user then redis.call('ZREM', keys.by_tenant, place) end
end

-- Writes the parts of a record into the history. One that has expired by itself has none.
local function remember(keys, id, owner, parts, ending)
  if not (parts[1] and parts[2] and parts[3]) then return end
  parts[4] = ending.how
  for n, part in ipairs(parts) do parts[n] = struct.pack('>I4', #part) .. part end
  local record = table.concat(parts)
  local known = redis.call('SET', keys.ended, record, 'PX', ending.lasts, 'GET')
  if known then displace(keys, id, owner, known) end
  local place = ending.sort .. id
  remember_in(keys.history, place .. owner, ending.lasts)
  remember_in(keys.by_user, place, ending.lasts)
  if keys.by_tenant ~= keys.user then remember_in(keys.by_tenant, place, ending.lasts) end
end

-- Ends a session: its record leaves the user's hash and the indexes for the history.
-- keys: user, all, due, history, by_user, ended; tenant, name, by_tenant, which are the user's where
--       there is no tenant
-- ending: sort (the first bytes of its place), how (JSON), lasts (ms, 0 for no history)
local function finish(keys, id, place, owner, ending)
  local parts = ending.lasts > 0 and redis.call('HMGET', keys.user, id, id .. 'a', id .. 'd')
  -- A server without free memory refuses a script whose first write may need some.
  redis.call('HDEL', keys.user, id, id .. 'a', id .. 'd')
  redis.call('ZREM', keys.all, place)
  redis.call('ZREM', keys.due, place .. owner)
  if keys.tenant ~= keys.user then
    redis.call('ZREM', keys.tenant, place)
    redis.call('ZREM', keys.name, place)
  end
  if parts then remember(keys, id, owner, parts, ending) end
end
