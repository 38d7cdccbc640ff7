-- Sets or unsets a policy and tells of it.
-- KEYS: policies, log
-- ARGV: field, policy ('' for none), at, actor, tenant, user, kind, log cap, mark, publish
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
local seq = 0
local newest = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
if newest then seq = tonumber(string.match(newest[1], '^(%d+)')) end
local entry = { 'kind', ARGV[7], 'at', ARGV[3], 'by', ARGV[4] }
for name, value in pairs({ tenant = ARGV[5], user = ARGV[6] }) do
  if value ~= '' then
    entry[#entry + 1] = name
    entry[#entry + 1] = value
  end
end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[8],
  string.format('%.0f-%s', seq + 1, ARGV[9]), unpack(entry))
redis.call(ARGV[10], KEYS[2], '')
return 1
