-- Make deliveries look young to Celery, which takes them for lost after its visibility timeout. A delivery whose lease
-- has ended is left to grow old.
--
-- KEYS: none, leases, unacked_index. ARGV: tags, in the order in which they were taken.
-- Reply: positions (1, 2, …) of the tags that have no lease any more.

redis.call('DEL', KEYS[1])

local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local young, gone = {}, {}
for position, lease in ipairs(redis.call('ZMSCORE', KEYS[2], unpack(ARGV))) do
  if not lease then
    gone[#gone + 1] = position
  elseif tonumber(lease) > now then
    young[#young + 1] = string.format('%.6f', now + position * 0.000001)
    young[#young + 1] = ARGV[position]
  end
end
if #young > 0 then redis.call('ZADD', KEYS[3], 'XX', unpack(young)) end
return gone
