-- Announces shards that change.
-- KEYS: active; ARGV: for each shard its number and a mark
return redis.call('HSET', KEYS[1], unpack(ARGV))
