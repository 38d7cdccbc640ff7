-- Ends those of the given sessions that exist and, where a time is given, were last accessed before it. In a
-- sweep, those whose deadline passed longer ago than a time: also where a record has expired by itself, so
-- that it is forgotten and told of, once.
-- Answers which, counted from 1. A driver sends a call again whose answer got lost: it is answered as it
-- was the first time.
-- KEYS: all, due, log, history, answer; then for each session: user, the user's history, the ended
--       session; tenant, name, the tenant's history (where there is no tenant, three times the user's)
-- ARGV: log cap, log keep (us), mark, publish, sort key of what ends, how long it is remembered (ms),
--       how it ends, overdue (us, '' for no sweep), last accessed before ('' for any), how long the answer
--       is kept (ms); then for each session: owner, place, number of the entry's fields and values, these
local ended = {}
for n in string.gmatch(redis.call('GET', KEYS[5]) or '', '%d+') do ended[#ended + 1] = tonumber(n) end
if #ended > 0 then return ended end

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

local at = 11
for n = 1, (#KEYS - 5) / 6 do
  local k = 6 * n
  local keys = {
    all = KEYS[1], due = KEYS[2], history = KEYS[4], user = KEYS[k], by_user = KEYS[k + 1],
    ended = KEYS[k + 2], tenant = KEYS[k + 3], name = KEYS[k + 4], by_tenant = KEYS[k + 5]
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
if #ended > 0 then redis.call('SET', KEYS[5], table.concat(ended, ' '), 'PX', ARGV[10]) end
close_log(log, ARGV[4])
return ended
