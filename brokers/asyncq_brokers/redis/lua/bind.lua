-- Declare a queue's binding as kombu 5.7 does.
--
-- KEYS: none, the exchange's binding set, its set of permanent bindings, binding_deadlines.
-- ARGV: member, exchange, milliseconds that the binding of a queue with `x-expires` lasts ("" for any other queue).

redis.call('DEL', KEYS[1]) -- a worker must be able to start on a full server, and drain it

redis.call('SADD', KEYS[2], ARGV[1])
if ARGV[3] == '' then
  -- While this set has members, no kombu that consumes an expiring queue sweeps the exchange's bindings.
  redis.call('SADD', KEYS[3], ARGV[1])
else
  local time = redis.call('TIME')
  local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  redis.call('ZADD', KEYS[4], 'GT', now + tonumber(ARGV[3]), ARGV[2])
end
return 1
