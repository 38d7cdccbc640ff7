-- Ends those of the given sessions that exist and, where lines are given, are past one of them.
-- Where lines are given, a session whose record has expired by itself is ended, too: it is
-- forgotten and told of, once. Answers which, counted from 1.
-- KEYS: all, used, expiring, log; then for each session: user, tenant, name (the user's key again
--       where there is no tenant)
-- ARGV: log cap, log keep (us), mark, publish, inactive before ('' for no lines), expired by;
--       then for each session: owner, place, number of the entry's fields and values, these
local all, used, expiring = KEYS[1], KEYS[2], KEYS[3]
local inactive_before, expired_by = tonumber(ARGV[5]), tonumber(ARGV[6])
local log = open_log(KEYS[4], ARGV[1], ARGV[2], ARGV[3])

local function is_past(member, is_there)
  local last = redis.call('ZSCORE', used, member)
  local expiry = redis.call('ZSCORE', expiring, member)
  return (last and (not is_there or tonumber(last) < inactive_before))
    or (expiry and tonumber(expiry) <= expired_by)
end

local ended, at = {}, 7
for n = 1, (#KEYS - 4) / 3 do
  local user, by_tenant, by_name = KEYS[3 * n + 2], KEYS[3 * n + 3], KEYS[3 * n + 4]
  local owner, place, count = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local fields = {}
  for k = 1, count do fields[k] = ARGV[at + 2 + k] end
  at = at + 3 + count
  local id, member = string.sub(place, 9), place .. owner
  local ends = redis.call('HEXISTS', user, id) == 1
  if inactive_before then ends = is_past(member, ends) end
  if ends then
    redis.call('HDEL', user, id, id .. 'a', id .. 'k')
    redis.call('ZREM', all, place)
    redis.call('ZREM', used, member)
    redis.call('ZREM', expiring, member)
    if by_tenant ~= user then
      redis.call('ZREM', by_tenant, place)
      redis.call('ZREM', by_name, place)
    end
    local version = tell(log, fields)
    if redis.call('HLEN', user) > 1 then
      redis.call('HSET', user, 'v', version)
    else
      redis.call('DEL', user)
    end
    ended[#ended + 1] = n
  end
end
close_log(log, ARGV[4])
return ended
