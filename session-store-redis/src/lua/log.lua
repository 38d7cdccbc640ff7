-- Appending to a shard's log; stands before the scripts that do.
-- An entry's id is its number and a mark. The number is the server's time in microseconds, or one
-- more than the last number if the clock is not past it, so numbers only grow and tell an age.
local MOST_CUT = 1000

local function digits(number) return string.format('%.0f', number) end

-- cap: the entries that stay at any age; keep: for how many microseconds more stay.
local function open_log(key, cap, keep, mark)
  local log = { key = key, cap = tonumber(cap), mark = mark, now = clock(), last = 0, told = false }
  log.old = log.now - tonumber(keep)
  -- The newest entry, where the clock is not past its number. Otherwise its number does not matter.
  local ahead = redis.call('XREVRANGE', key, '+', digits(log.now), 'COUNT', 1)[1]
  if ahead then log.last = tonumber(string.match(ahead[1], '^(%d+)')) end
  return log
end

local function tell(log, fields)
  log.last = math.max(log.last + 1, log.now)
  log.told = true
  local number = digits(log.last)
  redis.call('XADD', log.key, number .. '-' .. log.mark, unpack(fields))
  return number
end

-- Cuts the oldest entries beyond the cap: those that are old, and young ones beyond ten caps. Only whole
-- nodes of the stream, so that nothing is read where the first has an entry that stays.
local function cut(log)
  local beyond = redis.call('XLEN', log.key) - log.cap
  if beyond <= 0 then return end
  local most = math.min(beyond, MOST_CUT)
  redis.call('XTRIM', log.key, 'MINID', '~', digits(math.max(log.old, 0)), 'LIMIT', most)
  if beyond > 9 * log.cap then
    redis.call('XTRIM', log.key, 'MAXLEN', '~', 10 * log.cap, 'LIMIT', MOST_CUT)
  end
end

-- publish: the command, or empty where nothing that was told invalidates.
local function close_log(log, publish)
  if not log.told then return end
  cut(log)
  if publish ~= '' then redis.call(publish, log.key, '') end
end
