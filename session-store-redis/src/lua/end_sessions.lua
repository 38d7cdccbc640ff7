-- Ends those of the given sessions that exist and, where a time is given, were last accessed before it. In a
-- sweep, those whose deadline passed longer ago than a time: also where a record has expired by itself, so
-- that it is forgotten and told of, once.
-- Answers which, counted from 1.
-- KEYS: all, due, log, history; then for each session: user, the user's history, the ended session;
--       tenant, name, the tenant's history (where there is no tenant, three times the user's)
-- ARGV: log cap, log keep (us), mark, publish, sort key of what ends, how long it is remembered (ms),
--       how it ends, overdue (us, '' for no sweep), last accessed before ('' for any); then for each
--       session: owner, place, number of the entry's fields and values, these
local log = open_log(KEYS[3], ARGV[1], ARGV[2], ARGV[3])
local ending = { sort = ARGV[5], lasts = tonumber(ARGV[6]), how = ARGV[7] }
local overdue, accessed_before = tonumber(ARGV[8]), tonumber(ARGV[9])

local function ends(keys, id, member)
  if overdue then
    local deadline = redis.call('ZSCORE', keys.due, member)
    return deadline and tonumber(deadline) < log.now - overdue
  end
  if redis.call('HEXISTS', keys.user, id) == 0 then return false end
  if not accessed_before then return true end
  local accesses = read_accesses(keys.user, id)
  return accesses and tonumber(accesses.last) < accessed_before
end

local ended, at = {}, 10
for n = 1, (#KEYS - 4) / 6 do
  local k = 6 * n
  local keys = {
    all = KEYS[1], due = KEYS[2], history = KEYS[4], user = KEYS[k - 1], by_user = KEYS[k],
    ended = KEYS[k + 1], tenant = KEYS[k + 2], name = KEYS[k + 3], by_tenant = KEYS[k + 4]
  }
  local owner, place, count = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local fields = {}
  for f = 1, count do fields[f] = ARGV[at + 2 + f] end
  at = at + 3 + count
  local id = string.sub(place, 9)
  if ends(keys, id, place .. owner) then
    finish(keys, id, place, owner, ending)
    local version = tell(log, fields)
    if redis.call('HLEN', keys.user) > 1 then
      redis.call('HSET', keys.user, 'v', version)
    else
      redis.call('DEL', keys.user)
    end
    ended[#ended + 1] = n
  end
end
close_log(log, ARGV[4])
return ended
