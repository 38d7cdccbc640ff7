-- Sets or unsets what holds at one place, a policy or a block, and tells of it. Answers the number of
-- the change.
-- KEYS: scopes, log
-- ARGV: field, value ('' for none), log cap, log keep (us), mark, publish; then the entry's fields
--       and values
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
local log = open_log(KEYS[2], ARGV[3], ARGV[4], ARGV[5])
local number = tell(log, { unpack(ARGV, 7) })
redis.call('HSET', KEYS[1], 'n', number)
close_log(log, ARGV[6])
return number
