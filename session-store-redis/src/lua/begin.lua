-- Begins a shard's log with a mark, so that a position before its first entry can be told from
-- one of another log.
-- KEYS: log; ARGV: mark, kind
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('XADD', KEYS[1], '1-' .. ARGV[1], 'kind', ARGV[2])
end
return 1
