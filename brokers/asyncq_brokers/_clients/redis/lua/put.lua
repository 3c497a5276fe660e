-- Write facts.
--
-- KEYS: none, names. ARGV: prefix of a fact's key, "NX" to write only what is absent (else ""), then three a fact: its
--       name, its value, its life in milliseconds.
-- Reply: a number a fact: 1 written; 0 its key was taken.

redis.call('DEL', KEYS[1]) -- facts are small, and a full server needs coordination too

local prefix, absent = ARGV[1], ARGV[2] == 'NX'
local reply, written, longest = {}, {}, 0
for position = 3, #ARGV, 3 do
  local name, value, life = unpack(ARGV, position, position + 2)
  local key = prefix .. name
  if absent and redis.call('EXISTS', key) == 1 then
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
