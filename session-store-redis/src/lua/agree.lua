-- What all nodes agree on: the first to come decides.
-- KEYS: agreement; ARGV: key, number of shards, version
redis.call('HSETNX', KEYS[1], 'key', ARGV[1])
redis.call('HSETNX', KEYS[1], 'shards', ARGV[2])
redis.call('HSETNX', KEYS[1], 'version', ARGV[3])
return redis.call('HMGET', KEYS[1], 'key', 'shards', 'version')
