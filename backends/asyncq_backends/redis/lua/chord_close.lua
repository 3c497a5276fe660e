-- Forget a chord whose claim nobody else has, and remember that it is over.
--
-- KEYS: claim (.c), chords to look at, then all that is to be forgotten. ARGV: group id, token, milliseconds that it is
-- remembered.

local found = redis.call('GET', KEYS[1])
if found and found ~= ARGV[2] then return 0 end
redis.call('UNLINK', unpack(KEYS, 3)) -- 100,000 parts are freed elsewhere
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('SET', KEYS[1], 'done', 'PX', ARGV[3])
return 1
