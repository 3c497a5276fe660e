-- Take a token from a bucket, by the generic cell rate algorithm on the server's clock.
--
-- KEYS: none, the bucket: the time at which it will be full, in microseconds; a full one has no key.
-- ARGV: microseconds between two tokens, microseconds that all tokens but one take to come.
-- Reply: microseconds until the token is there.

redis.call('DEL', KEYS[1])

local interval, slack = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local missing = math.max((redis.call('GET', KEYS[2]) or now) - now, 0)
local life = math.max(math.ceil((missing + interval) / 1000), 1)
redis.call('SET', KEYS[2], string.format('%.3f', now + missing + interval), 'PX', life)
local wait = missing - slack
return wait < 1 and 0 or math.ceil(wait)
