-- Reads sessions whose deadline passed longer ago than a time, the earliest deadline first.
-- KEYS: due; ARGV: overdue (us), count
local before = string.format('(%.0f', clock() - tonumber(ARGV[1]))
return redis.call('ZRANGE', KEYS[1], '-inf', before, 'BYSCORE', 'LIMIT', 0, ARGV[2])
