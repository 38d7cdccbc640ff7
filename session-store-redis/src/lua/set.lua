-- Sets or unsets what holds at one place, a policy or a block, and tells of it. Changes of blocks are
-- numbered.
-- KEYS: scopes, log
-- ARGV: field, value ('' for none), field of the number ('' for a policy), log cap, log keep (us),
--       mark, publish; then the entry's fields and values
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
local log = open_log(KEYS[2], ARGV[4], ARGV[5], ARGV[6])
local number = tell(log, { unpack(ARGV, 8) })
if ARGV[3] ~= '' then redis.call('HSET', KEYS[1], ARGV[3], number) end
close_log(log, ARGV[7])
return 1
