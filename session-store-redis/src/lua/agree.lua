-- What all nodes agree on: whoever comes first decides.
-- KEYS: agreement; ARGV: key, number of shards
redis.call('HSETNX', KEYS[1], 'key', ARGV[1])
redis.call('HSETNX', KEYS[1], 'shards', ARGV[2])
redis.call('HSETNX', KEYS[1], 'version', '1')
return redis.call('HMGET', KEYS[1], 'key', 'shards', 'version')
