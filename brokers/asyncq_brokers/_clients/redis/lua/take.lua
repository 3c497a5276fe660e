-- Take a token from a bucket, by the generic cell rate algorithm on the server's clock.
--
-- KEYS: none, the bucket: the time at which it will be full, in microseconds; a full one has no key.
-- ARGV: microseconds between two tokens, capacity.
-- Reply: microseconds until the token is there.

redis.call('DEL', KEYS[1])

local interval, capacity = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local missing = math.max((redis.call('GET', KEYS[2]) or now) - now, 0)
local life = math.max(math.ceil((missing + interval) / 1000), 1)
redis.call('SET', KEYS[2], string.format('%.3f', now + missing + interval), 'PX', life)
local wait = missing - (capacity - 1) * interval
return wait > capacity and math.ceil(wait) or 0 -- a sum of so many times may be a microsecond off for each
