-- Put what deliveries hold somewhere else and forget the deliveries, each in one step, and only where the rule allows.
--
-- KEYS: none, leases, unacked, unacked_index, unreadable, parked_queues.
-- ARGV: rule, seconds, then five a delivery: tag, action, place, message, extra.
--   rule    "held"     the delivery is still recorded
--           "expired"  … and its lease has ended
--           "overdue"  … and its score is older than the seconds, and no lease of asyncq's holds it
--   action  "L"  push the message at the head of the list `place`: behind the others
--           "R"  push it at the tail: next in line
--           "M"  push it at the tail of many: `place` is a JSON list of lists
--           "N"  nothing, but forget what points to a record that is no more
--           "P"  park it: `place` is the queue, `extra` the JSON list [sorted set, hash, until]
-- Reply: positions (1, 2, …) of the deliveries that the rule left alone.

redis.call('DEL', KEYS[1]) -- settling goes on when the server is full: see claim.lua

local leases, unacked, index, unreadable, parked_queues = KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local rule, age = ARGV[1], tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000

local function allowed(tag)
  if redis.call('HEXISTS', unacked, tag) == 0 and redis.call('HEXISTS', unreadable, tag) == 0 then
    -- What points to a record that is no more.
    redis.call('ZREM', leases, tag)
    redis.call('ZREM', index, tag)
    return false
  end
  if rule == 'held' then return true end
  local lease = redis.call('ZSCORE', leases, tag)
  if rule == 'expired' then return lease and tonumber(lease) <= now end
  local score = redis.call('ZSCORE', index, tag)
  return score and tonumber(score) <= now - age and not (lease and tonumber(lease) > now)
end

local gone = {}
for first = 3, #ARGV, 5 do
  local tag, action, place, message, extra = unpack(ARGV, first, first + 4)
  if allowed(tag) and action ~= 'N' then
    -- Into the new place before out of the old one: a wrong type of key fails the script with nothing lost.
    if action == 'L' then
      redis.call('LPUSH', place, message)
    elseif action == 'R' then
      redis.call('RPUSH', place, message)
    elseif action == 'M' then
      for _, list in ipairs(cjson.decode(place)) do redis.call('RPUSH', list, message) end
    else
      local keys = cjson.decode(extra)
      redis.call('ZADD', keys[1], keys[3], tag)
      redis.call('HSET', keys[2], tag, message)
      redis.call('SADD', parked_queues, place)
    end
    redis.call('HDEL', unacked, tag)
    redis.call('HDEL', unreadable, tag)
    redis.call('ZREM', index, tag)
    redis.call('ZREM', leases, tag)
  else
    gone[#gone + 1] = (first + 2) / 5
  end
end
return gone
