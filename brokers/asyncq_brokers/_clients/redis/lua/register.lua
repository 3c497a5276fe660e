-- Stands before the scripts that write facts.
--
-- A sorted set of names, all with score 0, is what `scan` finds facts by: to look through all keys of the server would
-- cost as much as there are messages and results.

-- Names looked at for each one written, at random: with these the dead among them come to a third of the set at most.
-- A second sorted set, by time of expiry, would name them exactly, cost about the same and need 100 bytes a fact more.
local SAMPLE = 3

-- Add names to the set, which lives as long as its longest-lived fact, and drop some whose facts have expired.
local function register(set, prefix, names, life)
  local scored = {}
  for number, name in ipairs(names) do
    scored[2 * number - 1] = 0
    scored[2 * number] = name
  end
  redis.call('ZADD', set, unpack(scored))
  if redis.call('PTTL', set) < life then redis.call('PEXPIRE', set, life) end
  for _, name in ipairs(redis.call('ZRANDMEMBER', set, SAMPLE * #names)) do
    if redis.call('EXISTS', prefix .. name) == 0 then redis.call('ZREM', set, name) end
  end
end
