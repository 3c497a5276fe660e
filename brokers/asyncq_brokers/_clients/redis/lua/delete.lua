-- Forget facts.
--
-- KEYS: names. ARGV: prefix of a fact's key, "1" to compare values, the value to compare with, then names.
-- Reply: how many were forgotten.

local deleted = 0
for position = 4, #ARGV do
  local key = ARGV[1] .. ARGV[position]
  if ARGV[2] ~= '1' or redis.call('GET', key) == ARGV[3] then
    deleted = deleted + redis.call('DEL', key)
    redis.call('ZREM', KEYS[1], ARGV[position])
  end
end
return deleted
