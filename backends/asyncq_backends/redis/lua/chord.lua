-- Stands before the scripts for chords. Keys of chords are Celery's, but for two: a chord's body, and the sorted set of
-- chords that are to be looked at again, each at a time in milliseconds.

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- How many parts are there: a sorted set, or a list where their order is not kept.
local function count(parts)
  if redis.call('TYPE', parts).ok == 'list' then return redis.call('LLEN', parts) end
  return redis.call('ZCARD', parts)
end

-- The set lives as long as the longest-lived of its chords.
local function look_again(chords, group, at, life)
  local left = redis.call('PTTL', chords) -- -1 for ever, -2 for none
  redis.call('ZADD', chords, at, group)
  if life == '' then
    redis.call('PERSIST', chords)
  elseif left ~= -1 and left < tonumber(life) then
    redis.call('PEXPIRE', chords, life)
  end
end
