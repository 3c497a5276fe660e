-- A page of facts, in the order of their names.
--
-- KEYS: names. ARGV: prefix of a fact's key, first and last name as ZRANGE BYLEX has them, the most names to look at.
-- Reply: {the last name looked at, if there may be more (else ""), name, value, name, value, …}

local found = redis.call('ZRANGE', KEYS[1], ARGV[2], ARGV[3], 'BYLEX', 'LIMIT', 0, ARGV[4])
local reply = {#found == tonumber(ARGV[4]) and found[#found] or ''}
for _, name in ipairs(found) do
  local value = redis.call('GET', ARGV[1] .. name)
  if value then
    reply[#reply + 1] = name
    reply[#reply + 1] = value
  else
    redis.call('ZREM', KEYS[1], name)
  end
end
return reply
