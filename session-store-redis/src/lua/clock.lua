-- The server's clock, in microseconds; stands before the scripts that go by it.
local function clock()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end
