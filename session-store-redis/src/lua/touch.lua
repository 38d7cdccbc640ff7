-- Writes accesses back. Never makes a record. Answers which sessions are gone, counted from 1.
-- KEYS: due; then for each session: user
-- ARGV: margin (us); then for each session: id, last accessed, deadline, claimed, addresses
local MOST_ADDRESSES = 16
local now, margin = clock(), tonumber(ARGV[1])

-- The place of a session and its owner, by which it stands in `due`.
local function member_of(user, id)
  local fixed = redis.call('HGET', user, id)
  local user_at = 10 + string.byte(fixed, 9)
  return string.sub(fixed, 1, 8) .. id .. string.sub(fixed, 9, user_at + string.byte(fixed, user_at))
end

local function merged(known, newer)
  local list = {}
  for address in string.gmatch(known .. ',' .. newer, '[^,]+') do
    for k = #list, 1, -1 do
      if list[k] == address then table.remove(list, k) end
    end
    list[#list + 1] = address
  end
  return table.concat(list, ',', math.max(1, #list - MOST_ADDRESSES + 1))
end

local gone = {}
for n = 1, #KEYS - 1 do
  local keys = { due = KEYS[1], user = KEYS[n + 1] }
  local id, last, deadline, claimed, addresses = unpack(ARGV, 5 * n - 3, 5 * n + 1)
  local accesses = read_accesses(keys.user, id)
  if not accesses then
    gone[#gone + 1] = n
  else
    if tonumber(last) > tonumber(accesses.last) then accesses.last = last end
    if tonumber(deadline) > tonumber(accesses.deadline) then
      raise_deadline(keys, accesses, member_of(keys.user, id), deadline, now, margin)
    end
    if claimed == '1' then accesses.claimed = claimed end
    if addresses ~= '' then accesses.addresses = merged(accesses.addresses, addresses) end
    write_accesses(keys.user, id, accesses)
  end
end
return gone
