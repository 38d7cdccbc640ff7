-- Reads the first shard's log from an id on, the clock, and which shards change.
-- KEYS: log, active; ARGV: id, count
return {
  redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2]),
  clock(),
  redis.call('HGETALL', KEYS[2])
}
