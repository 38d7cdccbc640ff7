-- Appending to a shard's log; stands before the scripts that do.
-- An entry's id is its number and a mark. The number is the server's time in microseconds, or one
-- more than the last number if the clock is not past it, so numbers only grow and tell an age.
local MOST_CUT = 1000

local function number_of(entry) return tonumber(string.match(entry[1], '^(%d+)')) end

-- cap: the entries that stay at any age; keep: for how many microseconds more stay.
local function open_log(key, cap, keep, mark)
  local log = { key = key, cap = tonumber(cap), mark = mark, last = 0, told = false }
  log.now = clock()
  log.old = log.now - tonumber(keep)
  local newest = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
  if newest then log.last = number_of(newest) end
  return log
end

local function tell(log, fields)
  log.last = math.max(log.last + 1, log.now)
  log.told = true
  local number = string.format('%.0f', log.last)
  redis.call('XADD', log.key, number .. '-' .. log.mark, unpack(fields))
  return number
end

-- Cuts the oldest entries beyond the cap: those that are old, and young ones beyond ten caps.
local function cut(log)
  local step = math.min(log.cap, 100)
  local length = redis.call('XLEN', log.key)
  for _ = 1, MOST_CUT / step do
    if length < log.cap + step then return end
    local oldest = redis.call('XRANGE', log.key, '-', '+', 'COUNT', step + 1)
    local is_old = number_of(oldest[step]) < log.old
    if not is_old and length <= 10 * log.cap then return end
    redis.call('XTRIM', log.key, 'MINID', oldest[step + 1][1])
    length = length - step
  end
end

-- publish: the command, or empty where nothing that was told invalidates.
local function close_log(log, publish)
  if not log.told then return end
  cut(log)
  if publish ~= '' then redis.call(publish, log.key, '') end
end
