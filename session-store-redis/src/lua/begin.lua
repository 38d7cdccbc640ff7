-- Begins a shard's log with a mark, so that a position before its first entry can be told from
-- one of another log. Answers the newest id, and the clock.
-- KEYS: log; ARGV: mark, kind
if redis.call('EXISTS', KEYS[1]) == 0 then
  tell(open_log(KEYS[1], 1, 0, ARGV[1]), { 'kind', ARGV[2] })
end
return { redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1][1], clock() }
