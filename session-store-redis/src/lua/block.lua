-- Writes blocks where the commits of a shard look for them, unless a later change has been here.
-- KEYS: blocked
-- ARGV: number of the change; then for each place: field, whether it is blocked (1 or 0), until when
--       (us, '' for ever)
for n = 2, #ARGV, 3 do
  local field, is_blocked, ends = unpack(ARGV, n, n + 2)
  local known = redis.call('HGET', KEYS[1], field)
  if not known or tonumber(string.match(known, '^%d+')) <= tonumber(ARGV[1]) then
    if is_blocked == '1' then
      redis.call('HSET', KEYS[1], field, ARGV[1] .. ' ' .. ends)
    else
      redis.call('HDEL', KEYS[1], field)
    end
  end
end
return 1
