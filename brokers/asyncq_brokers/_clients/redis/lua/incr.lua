-- Add to a counter.
--
-- KEYS: none, names, the counter. ARGV: prefix of a fact's key, name of the counter, what to add, life in milliseconds.
-- Reply: the new number; nil if the fact holds none.

redis.call('DEL', KEYS[1])

local number = redis.pcall('INCRBY', KEYS[3], ARGV[3])
if type(number) == 'table' then return false end
redis.call('PEXPIRE', KEYS[3], ARGV[4])
register(KEYS[2], ARGV[1], {ARGV[2]}, tonumber(ARGV[4]))
return number
