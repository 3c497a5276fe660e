-- Move or drop messages that stand in a list, by value.
--
-- KEYS: none, the list, parked_queues.
-- ARGV: "L" or "P" as in move.lua, or "D" (drop); then five a message: the message, place, what to put there, extra,
--       id of the parked message.
-- Reply: how many were there.
redis.call('DEL', KEYS[1])
local action, count = ARGV[1], 0
for first = 2, #ARGV, 5 do
  local message, place, stored, extra, id = unpack(ARGV, first, first + 4)
  if redis.call('LPOS', KEYS[2], message) then
    if action == 'P' then
      local keys = cjson.decode(extra)
      redis.call('ZADD', keys[1], keys[3], id)
      redis.call('HSET', keys[2], id, stored)
      redis.call('SADD', KEYS[3], place)
    elseif action == 'L' then
      redis.call('LPUSH', place, stored)
    end
    redis.call('LREM', KEYS[2], -1, message)
    count = count + 1
  end
end
return count
