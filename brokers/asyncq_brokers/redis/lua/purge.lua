-- Drop lists. KEYS: the lists. Reply: how many messages stood in them.
local count = 0
for _, list in ipairs(KEYS) do count = count + redis.call('LLEN', list) end
redis.call('DEL', unpack(KEYS))
return count
