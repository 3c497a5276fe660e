-- Move records that turned out to be no JSON out of the hash that Celery reads.
--
-- KEYS: none, unacked, unacked_index, unreadable. ARGV: tags.
-- Reply: positions (1, 2, …) of the tags that have no record there any more.
redis.call('DEL', KEYS[1])
local gone = {}
for position, tag in ipairs(ARGV) do
  local value = redis.call('HGET', KEYS[2], tag)
  if value then
    redis.call('HSET', KEYS[4], tag, value)
    redis.call('HDEL', KEYS[2], tag)
    redis.call('ZREM', KEYS[3], tag)
  else
    gone[#gone + 1] = position
  end
end
return gone
