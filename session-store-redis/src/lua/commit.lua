-- Applies a change to one user's sessions if the version still holds.
-- KEYS: user, all, used, expiring, log [, tenant, name]
-- ARGV: owner, expected version, until (ms, '' for ever), log cap, log keep (us), mark, publish;
--       then for each change: what, id, number of the entry's fields and values, these, and
--       insert: fixed, accesses, token, last accessed, absolute expiry ('' for none)
--       rotate: token, whether it brings a time of authentication
local user, all, used, expiring = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local owner, expected, lasts = ARGV[1], ARGV[2], ARGV[3]

local changes, n = {}, 8
while n <= #ARGV do
  local change = { what = ARGV[n], id = ARGV[n + 1], fields = {} }
  local count = tonumber(ARGV[n + 2])
  n = n + 3
  for k = 1, count do change.fields[k] = ARGV[n + k - 1] end
  n = n + count
  if change.what == 'insert' then
    change.fixed, change.accesses, change.token = ARGV[n], ARGV[n + 1], ARGV[n + 2]
    change.used, change.expiry = ARGV[n + 3], ARGV[n + 4]
    n = n + 5
  elseif change.what == 'rotate' then
    change.token, change.authenticated = ARGV[n], ARGV[n + 1] == '1'
    n = n + 2
  end
  changes[#changes + 1] = change
end

-- First whether all of it is possible, then all of it.
if (redis.call('HGET', user, 'v') or '0') ~= expected then return 0 end
for _, change in ipairs(changes) do
  local fixed = redis.call('HGET', user, change.id)
  -- Another user's key is this one where their tags are the same.
  local is_own = fixed and string.sub(fixed, 9, 8 + #owner) == owner
  if change.what == 'insert' then
    if fixed then return 0 end
  elseif change.what == 'rotate' then
    if not is_own then return 0 end
  else
    change.skip = not is_own
    if is_own then change.place = string.sub(fixed, 1, 8) .. change.id end
  end
end

local function insert(change, is_fresh)
  local id, place = change.id, string.sub(change.fixed, 1, 8) .. change.id
  redis.call('HSET', user, id, change.fixed, id .. 'a', change.accesses, id .. 'k', change.token)
  redis.call('ZADD', all, 0, place)
  redis.call('ZADD', used, change.used, place .. owner)
  if change.expiry ~= '' then redis.call('ZADD', expiring, change.expiry, place .. owner) end
  if KEYS[6] then
    redis.call('ZADD', KEYS[6], 0, place)
    redis.call('ZADD', KEYS[7], 0, place)
  end
  if lasts == '' then
    redis.call('PERSIST', user)
  elseif is_fresh then
    redis.call('PEXPIREAT', user, lasts)
  else
    redis.call('PEXPIREAT', user, lasts, 'GT')
  end
end

local function rotate(change)
  local token = change.token
  if not change.authenticated then
    token = string.sub(redis.call('HGET', user, change.id .. 'k'), 1, 8) .. string.sub(token, 9)
  end
  redis.call('HSET', user, change.id .. 'k', token)
end

local function finish(change)
  redis.call('HDEL', user, change.id, change.id .. 'a', change.id .. 'k')
  redis.call('ZREM', all, change.place)
  redis.call('ZREM', used, change.place .. owner)
  redis.call('ZREM', expiring, change.place .. owner)
  if KEYS[6] then
    redis.call('ZREM', KEYS[6], change.place)
    redis.call('ZREM', KEYS[7], change.place)
  end
end

local is_fresh = redis.call('EXISTS', user) == 0
local log = open_log(KEYS[5], ARGV[4], ARGV[5], ARGV[6])
local version
for _, change in ipairs(changes) do
  if not change.skip then
    if change.what == 'insert' then
      insert(change, is_fresh)
      is_fresh = false
    elseif change.what == 'rotate' then
      rotate(change)
    elseif change.what == 'end' then
      finish(change)
    end
    version = tell(log, change.fields)
  end
end
if version then
  redis.call('HSET', user, 'v', version)
  if redis.call('HLEN', user) == 1 then redis.call('DEL', user) end
end
close_log(log, ARGV[7])
return 1
