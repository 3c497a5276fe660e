-- Declare a binding of a queue with `x-expires`, as kombu 5.7 does.
--
-- KEYS: the exchange's binding set, binding_deadlines. ARGV: member, exchange, milliseconds.
redis.call('SADD', KEYS[1], ARGV[1])
local time = redis.call('TIME')
local ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('ZADD', KEYS[2], 'GT', ms + tonumber(ARGV[3]), ARGV[2])
return 1
