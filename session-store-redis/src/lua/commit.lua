-- Applies a change to one user's sessions if the version still holds.
-- KEYS: user, all, used, expiring, log [, tenant, name]
-- ARGV: owner, tenant, user, expected version, at, actor, until (ms, '' for ever), log cap, mark,
--       publish; then for each change: what, id, kind, and
--       insert: fixed, accesses, token, last accessed, absolute expiry ('' for none)
--       rotate: token, whether it brings a time of authentication
local user, all, used, expiring, log = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local owner, expected, at, actor = ARGV[1], ARGV[4], ARGV[5], ARGV[6]
local lasts, cap, mark, publish = ARGV[7], ARGV[8], ARGV[9], ARGV[10]

local function own(id)
  local fixed = redis.call('HGET', user, id)
  if fixed and string.sub(fixed, 9, 8 + #owner) == owner then return fixed end
end

local changes, n = {}, 11
while n <= #ARGV do
  local change = { what = ARGV[n], id = ARGV[n + 1], kind = ARGV[n + 2] }
  n = n + 3
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
if (redis.call('HGET', user, 'v') or '0') ~= expected then
  -- The answer to an earlier try may have been lost: an id is a commit's own.
  for _, change in ipairs(changes) do
    if change.what == 'insert' and own(change.id) then return 1 end
  end
  return 0
end
local there = {}
for _, change in ipairs(changes) do
  local id = change.id
  if there[id] == nil then there[id] = own(id) ~= nil end
  if change.what == 'insert' then
    if there[id] then return 0 end
    there[id] = true
  elseif change.what == 'rotate' then
    if not there[id] then return 0 end
  elseif change.what == 'end' then
    change.skip = not there[id]
    there[id] = false
  else
    change.skip = not there[id]
  end
end

local fresh = redis.call('EXISTS', user) == 0
local seq = 0
local newest = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
if newest then seq = tonumber(string.match(newest[1], '^(%d+)')) end
local told = false
for _, change in ipairs(changes) do
  local id = change.id
  if not change.skip then
    if change.what == 'insert' then
      redis.call('HSET', user, id, change.fixed, id .. 'a', change.accesses, id .. 'k', change.token)
      local place = string.sub(change.fixed, 1, 8) .. id
      redis.call('ZADD', all, 0, place)
      redis.call('ZADD', used, change.used, place .. owner)
      if change.expiry ~= '' then redis.call('ZADD', expiring, change.expiry, place .. owner) end
      if KEYS[6] then
        redis.call('ZADD', KEYS[6], 0, place)
        redis.call('ZADD', KEYS[7], 0, place)
      end
      if lasts == '' then
        redis.call('PERSIST', user)
      elseif fresh then
        redis.call('PEXPIREAT', user, lasts)
        fresh = false
      else
        redis.call('PEXPIREAT', user, lasts, 'GT')
      end
    elseif change.what == 'rotate' then
      local token = change.token
      if not change.authenticated then
        token = string.sub(redis.call('HGET', user, id .. 'k'), 1, 8) .. string.sub(token, 9)
      end
      redis.call('HSET', user, id .. 'k', token)
    elseif change.what == 'end' then
      local place = string.sub(redis.call('HGET', user, id), 1, 8) .. id
      redis.call('HDEL', user, id, id .. 'a', id .. 'k')
      redis.call('ZREM', all, place)
      redis.call('ZREM', used, place .. owner)
      redis.call('ZREM', expiring, place .. owner)
      if KEYS[6] then
        redis.call('ZREM', KEYS[6], place)
        redis.call('ZREM', KEYS[7], place)
      end
    end
    seq = seq + 1
    local entry = { 'kind', change.kind, 'at', at, 'by', actor, 'user', ARGV[3], 'session', id }
    if ARGV[2] ~= '' then
      entry[#entry + 1] = 'tenant'
      entry[#entry + 1] = ARGV[2]
    end
    redis.call('XADD', log, 'MAXLEN', '~', cap, string.format('%.0f-%s', seq, mark), unpack(entry))
    told = true
  end
end
if told then
  redis.call('HSET', user, 'v', string.format('%.0f', seq))
  if redis.call('HLEN', user) == 1 then redis.call('DEL', user) end
  redis.call(publish, log, '')
end
return 1
