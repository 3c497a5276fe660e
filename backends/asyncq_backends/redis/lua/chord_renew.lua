-- Let a claim last longer, or take it again when it has ended and nobody else has one.
--
-- KEYS: none, claim (.c), size (.s), chords to look at. ARGV: group id, token, milliseconds.
-- Reply: 1 the claim is there; 0 somebody else has one, or the chord is over.

redis.call('DEL', KEYS[1])

local group, token, lease = unpack(ARGV)
local found = redis.call('GET', KEYS[2])
if found and found ~= token or not found and redis.call('EXISTS', KEYS[3]) == 0 then return 0 end
redis.call('SET', KEYS[2], token, 'PX', lease)
redis.call('ZADD', KEYS[4], 'XX', now() + lease, group)
return 1
