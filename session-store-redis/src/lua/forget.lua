-- Deletes ended sessions: of the given ones, those that ended longer ago than a time. Answers how
-- many, also of those whose record has expired by itself, and how many ended longer ago, also of those
-- that another call has deleted.
-- KEYS: history; then for each: the ended session, the user's history, the tenant's history (where
--       there is no tenant, the user's)
-- ARGV: older than (us, '' for any age); then for each: place, owner, when it ended
local older_than = tonumber(ARGV[1])
local before = older_than and clock() - older_than

local forgotten, old = 0, 0
for n = 1, (#KEYS - 1) / 3 do
  local place, owner, ended = unpack(ARGV, 3 * n - 1, 3 * n + 1)
  if not before or tonumber(ended) < before then
    old = old + 1
    local deleted = redis.call('UNLINK', KEYS[3 * n - 1])
      + redis.call('ZREM', KEYS[1], place .. owner)
      + redis.call('ZREM', KEYS[3 * n], place)
      + redis.call('ZREM', KEYS[3 * n + 1], place)
    if deleted > 0 then forgotten = forgotten + 1 end
  end
end
return { forgotten, old }
