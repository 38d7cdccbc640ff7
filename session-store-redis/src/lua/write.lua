-- Writes, so that a wait for replicas has something to wait for.
-- KEYS: waited
return redis.call('SET', KEYS[1], '', 'PX', 1000)
