-- Forget deliveries.
--
-- KEYS: leases, unacked, unacked_index, unreadable. ARGV: tags.
-- Reply: positions (1, 2, …) of the tags that were nobody's any more.
local gone = {}
for position, tag in ipairs(ARGV) do
  if redis.call('HDEL', KEYS[2], tag) == 0 and redis.call('HDEL', KEYS[4], tag) == 0 then
    gone[#gone + 1] = position
  end
end
redis.call('ZREM', KEYS[3], unpack(ARGV))
redis.call('ZREM', KEYS[1], unpack(ARGV))
return gone
