-- Reads sessions whose deadline passed longer ago than a time, the earliest deadline first.
-- KEYS: due; ARGV: overdue (us), how many of the first are passed over, count
local before = string.format('(%.0f', clock() - tonumber(ARGV[1]))
return redis.call('ZRANGE', KEYS[1], '-inf', before, 'BYSCORE', 'LIMIT', ARGV[2], ARGV[3])
