-- Writes accesses back. Never makes a record. Answers which sessions are gone, counted from 1.
-- KEYS: used; then for each session: user
-- ARGV: for each session: id, last accessed, addresses, until (ms, '' for ever)
local used = KEYS[1]
local MOST_ADDRESSES = 16

local gone = {}
for n = 1, #KEYS - 1 do
  local user = KEYS[n + 1]
  local id, at, addresses, lasts = ARGV[4 * n - 3], ARGV[4 * n - 2], ARGV[4 * n - 1], ARGV[4 * n]
  local accesses = redis.call('HGET', user, id .. 'a')
  if not accesses then
    gone[#gone + 1] = n
  else
    local last, known = string.match(accesses, '^(%S+) (.*)$')
    if tonumber(at) > tonumber(last) then
      last = at
      local fixed = redis.call('HGET', user, id)
      local user_at = 10 + string.byte(fixed, 9)
      local owner = string.sub(fixed, 9, user_at + string.byte(fixed, user_at))
      local member = string.sub(fixed, 1, 8) .. id .. owner
      redis.call('ZADD', used, 'XX', last, member)
      if lasts ~= '' then redis.call('PEXPIREAT', user, lasts, 'GT') end
    end
    if addresses ~= '' then
      local list = {}
      for address in string.gmatch(known .. ',' .. addresses, '[^,]+') do
        for k = #list, 1, -1 do
          if list[k] == address then table.remove(list, k) end
        end
        list[#list + 1] = address
      end
      known = table.concat(list, ',', math.max(1, #list - MOST_ADDRESSES + 1))
    end
    redis.call('HSET', user, id .. 'a', last .. ' ' .. known)
  end
end
return gone
