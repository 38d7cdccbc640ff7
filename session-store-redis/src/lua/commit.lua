-- Applies a change to one user's sessions if the version still holds. Answers 1 where it is done, 0
-- for a conflict, 2 where a session would begin and a block holds for its owner. An error with the code
-- DAMAGED where accesses cannot be read.
-- A driver sends a call again whose answer got lost. A call that is done is answered so, also after later
-- changes of other nodes.
-- KEYS: user, all, due, log, blocked, history, the user's history; tenant, name, the tenant's history
--       (where there is no tenant, three times the user's); answer; then for each change: the ended session
-- ARGV: owner, expected version, margin (us), log cap, log keep (us), mark, publish, sort key of what
--       ends, how long it is remembered (ms), how long the answer is kept (ms); then for each change:
--       what, id, number of the entry's fields and values, these, and
--       insert: fixed, accesses, deadline, details
--       end: how
--       update: deadline, details
if redis.call('EXISTS', KEYS[11]) == 1 then return 1 end

local owner, expected, margin = ARGV[1], ARGV[2], tonumber(ARGV[3])
local keys = {
  user = KEYS[1], all = KEYS[2], due = KEYS[3], history = KEYS[6], by_user = KEYS[7],
  tenant = KEYS[8], name = KEYS[9], by_tenant = KEYS[10]
}
local user = keys.user

local PARTS = {
  insert = { 'fixed', 'accesses', 'deadline', 'details' },
  ['end'] = { 'how' },
  update = { 'deadline', 'details' },
  tell = {}
}
local changes, n = {}, 11
local function next_argument()
  n = n + 1
  return ARGV[n - 1]
end
while n <= #ARGV do
  local change = { ended = KEYS[12 + #changes], what = next_argument(), id = next_argument() }
  change.fields = {}
  for k = 1, tonumber(next_argument()) do change.fields[k] = next_argument() end
  for _, part in ipairs(PARTS[change.what]) do change[part] = next_argument() end
  changes[#changes + 1] = change
end

-- First whether all of it is possible, then all of it.
local known = redis.call('HGET', user, 'v')
if (known or '0') ~= expected then return 0 end
local begins, has_ended = false, false
for _, change in ipairs(changes) do
  local fixed = redis.call('HGET', user, change.id)
  -- Another user's key is this one where their tags are the same.
  local is_own = fixed and string.sub(fixed, 9, 8 + #owner) == owner
  if change.what == 'insert' then
    begins = true
    if fixed or redis.call('EXISTS', change.ended) == 1 then return 0 end
    fixed = change.fixed
  elseif change.what == 'update' then
    if not is_own then return 0 end
    change.accesses = read_accesses(user, change.id)
    if not change.accesses then return redis.error_reply('DAMAGED accesses') end
  elseif not is_own then
    change.skip = true
  end
  if fixed then change.place = string.sub(fixed, 1, 8) .. change.id end
end
local log = open_log(KEYS[4], ARGV[4], ARGV[5], ARGV[6])
if begins then
  local tenant = string.sub(owner, 1, 1 + string.byte(owner, 1)) .. '\0'
  for _, block in ipairs(redis.call('HMGET', KEYS[5], '\0\0', tenant, owner)) do
    local ends = block and string.match(block, ' (.*)$')
    if ends and (ends == '' or tonumber(ends) > log.now) then return 2 end
  end
end

local function insert(change, is_fresh)
  local id, place = change.id, change.place
  redis.call('HSET', user, id, change.fixed, id .. 'a', change.accesses, id .. 'd', change.details)
  redis.call('ZADD', keys.all, 0, place)
  redis.call('ZADD', keys.due, change.deadline, place .. owner)
  if keys.tenant ~= user then
    redis.call('ZADD', keys.tenant, 0, place)
    redis.call('ZADD', keys.name, 0, place)
  end
  keep(user, change.deadline, log.now, margin, is_fresh)
end

local function update(change)
  raise_deadline(keys, change.accesses, change.place .. owner, change.deadline, log.now, margin)
  write_accesses(user, change.id, change.accesses)
  redis.call('HSET', user, change.id .. 'd', change.details)
end

local is_fresh = not known
local version
for _, change in ipairs(changes) do
  if not change.skip then
    if change.what == 'insert' then
      insert(change, is_fresh)
      is_fresh = false
    elseif change.what == 'update' then
      update(change)
    elseif change.what == 'end' then
      has_ended = true
      keys.ended = change.ended
      local ending = { sort = ARGV[8], how = change.how, lasts = tonumber(ARGV[9]) }
      finish(keys, change.id, change.place, owner, ending)
    end
    version = tell(log, change.fields)
  end
end
if version then
  redis.call('HSET', user, 'v', version)
  if has_ended and redis.call('HLEN', user) == 1 then redis.call('DEL', user) end
  redis.call('SET', KEYS[11], '', 'PX', ARGV[10])
end
close_log(log, ARGV[7])
return 1
