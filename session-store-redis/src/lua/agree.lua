-- What all nodes agree on: the first to come decides.
-- KEYS: agreement; ARGV: key, number of shards, version, key of the fleet ('' for none)
redis.call('HSETNX', KEYS[1], 'key', ARGV[1])
redis.call('HSETNX', KEYS[1], 'shards', ARGV[2])
redis.call('HSETNX', KEYS[1], 'version', ARGV[3])
if ARGV[4] ~= '' then redis.call('HSETNX', KEYS[1], 'fleet', ARGV[4]) end
return redis.call('HMGET', KEYS[1], 'key', 'shards', 'version', 'oldest', 'fleet')
