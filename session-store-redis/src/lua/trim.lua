-- Deletes up to a number of old log entries; the newest stays. Answers how many, the mark at the
-- beginning not counted.
-- KEYS: log; ARGV: older than (us), limit, kind of the mark
local before, limit = clock() - tonumber(ARGV[1]), tonumber(ARGV[2])
local count, doomed, from, is_end = 0, {}, '-', false
-- The mark and one entry; then twice as many each time, so that little is read that stays.
local step = 2
while not is_end do
  local entries = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', step)
  is_end = #entries < step
  for _, entry in ipairs(entries) do
    local fields = {}
    for n = 1, #entry[2], 2 do fields[entry[2][n]] = entry[2][n + 1] end
    local is_mark = fields.kind == ARGV[3]
    if not is_mark and (count == limit or (tonumber(fields.at) or 0) >= before) then
      is_end = true
      break
    end
    doomed[#doomed + 1] = entry[1]
    from = '(' .. entry[1]
    if not is_mark then count = count + 1 end
  end
  step = math.min(2 * step, limit - count + 1)
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
