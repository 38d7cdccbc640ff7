-- Ends those of the given sessions that exist and, where lines are given, are past one of them.
-- Where lines are given, a session whose record has expired by itself is ended, too: it is
-- forgotten and told of, once. Answers which, counted from 1.
-- KEYS: all, used, expiring, log; then for each session: user, tenant, name
-- ARGV: kind, at, actor, log cap, mark, publish, inactive before ('' for no lines), expired by;
--       then for each session: owner, tenant, user, place
local all, used, expiring, log = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local kind, at, actor, cap, mark, publish = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local inactive_before, expired_by = tonumber(ARGV[7]), tonumber(ARGV[8])

local seq = 0
local newest = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
if newest then seq = tonumber(string.match(newest[1], '^(%d+)')) end

local ended = {}
for n = 1, (#KEYS - 4) / 3 do
  local user, by_tenant, by_name = KEYS[3 * n + 2], KEYS[3 * n + 3], KEYS[3 * n + 4]
  local owner, tenant, name, place =
    ARGV[4 * n + 5], ARGV[4 * n + 6], ARGV[4 * n + 7], ARGV[4 * n + 8]
  local id, member = string.sub(place, 9), place .. owner
  local there = redis.call('HEXISTS', user, id) == 1
  local ends = there
  if inactive_before then
    local last = redis.call('ZSCORE', used, member)
    local expiry = redis.call('ZSCORE', expiring, member)
    ends = (last and (not there or tonumber(last) < inactive_before))
      or (expiry and tonumber(expiry) <= expired_by)
  end
  if ends then
    redis.call('HDEL', user, id, id .. 'a', id .. 'k')
    redis.call('ZREM', all, place)
    redis.call('ZREM', used, member)
    redis.call('ZREM', expiring, member)
    if tenant ~= '' then
      redis.call('ZREM', by_tenant, place)
      redis.call('ZREM', by_name, place)
    end
    seq = seq + 1
    local entry = { 'kind', kind, 'at', at, 'by', actor, 'user', name, 'session', id }
    if tenant ~= '' then
      entry[#entry + 1] = 'tenant'
      entry[#entry + 1] = tenant
    end
    redis.call('XADD', log, 'MAXLEN', '~', cap, string.format('%.0f-%s', seq, mark), unpack(entry))
    if redis.call('HLEN', user) > 1 then
      redis.call('HSET', user, 'v', string.format('%.0f', seq))
    else
      redis.call('DEL', user)
    end
    ended[#ended + 1] = n
  end
end
if #ended > 0 then redis.call(publish, log, '') end
return ended
