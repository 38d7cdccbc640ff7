-- Deletes up to a number of old log entries; the newest stays. Answers how many, the mark at the
-- beginning not counted.
-- KEYS: log; ARGV: older than (us), limit, kind of the mark
local before, limit = clock() - tonumber(ARGV[1]), tonumber(ARGV[2])
local count, doomed, last = 0, {}, nil
-- Two more: the mark, and the newest, which may be the last of these.
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', limit + 2)) do
  local fields = {}
  for n = 1, #entry[2], 2 do fields[entry[2][n]] = entry[2][n + 1] end
  local is_mark = fields.kind == ARGV[3]
  if not is_mark and (count == limit or (tonumber(fields.at) or 0) >= before) then break end
  doomed[#doomed + 1] = entry[1]
  if not is_mark then count = count + 1 end
end
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if newest and doomed[#doomed] == newest[1] then
  table.remove(doomed)
  count = math.max(0, count - 1)
end
-- The mark alone is not worth it: a reader may stand there.
if count == 0 then return 0 end
redis.call('XDEL', KEYS[1], unpack(doomed))
return count
