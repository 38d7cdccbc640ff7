-- Writes accesses back. Never makes a record. Answers which sessions are gone, counted from 1. Records
-- that cannot be read are passed over.
-- KEYS: due; then for each session: user
-- ARGV: margin (us); then for each session: id, last accessed, deadline, claimed, addresses
local MOST_ADDRESSES = 16
local now, margin = clock(), tonumber(ARGV[1])

-- The place of a session and its owner, by which it stands in `due`; none where they cannot be read.
local function member_of(user, id)
  local fixed = redis.call('HGET', user, id)
  local tenant = fixed and string.byte(fixed, 9)
  local user_at = tenant and 10 + tenant
  local last = user_at and string.byte(fixed, user_at)
  if not last then return nil end
  return string.sub(fixed, 1, 8) .. id .. string.sub(fixed, 9, user_at + last)
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
  local accesses, member = read_accesses(keys.user, id), member_of(keys.user, id)
  if redis.call('HEXISTS', keys.user, id) == 0 then
    gone[#gone + 1] = n
  elseif accesses and member then
    if tonumber(last) > tonumber(accesses.last) then accesses.last = last end
    raise_deadline(keys, accesses, member, deadline, now, margin)
    if claimed == '1' then accesses.claimed = claimed end
    if addresses ~= '' then accesses.addresses = merged(accesses.addresses, addresses) end
    write_accesses(keys.user, id, accesses)
  end
end
return gone
