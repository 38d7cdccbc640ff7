-- Sets or unsets a policy and tells of it.
-- KEYS: policies, log
-- ARGV: field, policy ('' for none), log cap, log keep (us), mark, publish; then the entry's fields
--       and values
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
local fields = {}
for n = 7, #ARGV do fields[n - 6] = ARGV[n] end
local log = open_log(KEYS[2], ARGV[3], ARGV[4], ARGV[5])
tell(log, fields)
close_log(log, ARGV[6])
return 1
