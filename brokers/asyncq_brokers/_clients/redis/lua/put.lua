-- Write facts.
--
-- KEYS: none, names. ARGV: prefix of a fact's key, "absent" to write only what is absent, "same" to write only what has
--       this value already (else ""), then three a fact: its name, its value, its life in milliseconds.
-- Reply: a number a fact: 1 written; 0 left as it was.

redis.call('DEL', KEYS[1]) -- facts are small, and a full server needs coordination too

local prefix, condition = ARGV[1], ARGV[2]
local reply, written, longest = {}, {}, 0
for position = 3, #ARGV, 3 do
  local name, value, life = unpack(ARGV, position, position + 2)
  local key = prefix .. name
  local left = (condition == 'absent' and redis.call('EXISTS', key) == 1)
    or (condition == 'same' and redis.call('GET', key) ~= value)
  if left then
    reply[#reply + 1] = 0
  else
    redis.call('SET', key, value, 'PX', life)
    reply[#reply + 1] = 1
    written[#written + 1] = name
    longest = math.max(longest, tonumber(life))
  end
end
if #written > 0 then register(KEYS[2], prefix, written, longest) end
return reply
