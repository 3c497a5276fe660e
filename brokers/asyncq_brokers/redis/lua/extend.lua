-- Start leases anew.
--
-- KEYS: none, leases, unacked, unreadable. ARGV: lease in seconds, then tags.
-- Reply: positions (1, 2, …) of the tags that are nobody's any more; their leases stay as they are.

redis.call('DEL', KEYS[1]) -- a bare ZADD is refused when the server is full, and healthy tasks would look dead

local time = redis.call('TIME')
local ends = time[1] + time[2] / 1000000 + tonumber(ARGV[1])
local gone, held = {}, {}
for position = 2, #ARGV do
  local tag = ARGV[position]
  if redis.call('HEXISTS', KEYS[3], tag) == 1 or redis.call('HEXISTS', KEYS[4], tag) == 1 then
    held[#held + 1] = ends
    held[#held + 1] = tag
  else
    gone[#gone + 1] = position - 1
  end
end
if #held > 0 then redis.call('ZADD', KEYS[2], unpack(held)) end
return gone
