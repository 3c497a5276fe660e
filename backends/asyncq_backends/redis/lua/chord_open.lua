-- Expect the parts of a chord, unless it was closed moments ago.
--
-- KEYS: none, size (.s), claim (.c), saved header, parts (.j), growth (.t), chords to look at.
-- ARGV: group id, size, life in milliseconds ("" for ever), what is to be saved ("" for nothing).

redis.call('DEL', KEYS[1])

local group, size, life, saved = unpack(ARGV)
if redis.call('GET', KEYS[3]) == 'done' then return 0 end

local function put(key, value)
  if life == '' then redis.call('SET', key, value) else redis.call('SET', key, value, 'PX', life) end
end

put(KEYS[2], size)
if saved ~= '' then put(KEYS[4], saved) end

-- Its parts came first: nobody who hands one in will find it complete.
if count(KEYS[5]) >= size + (redis.call('GET', KEYS[6]) or 0) then look_again(KEYS[7], group, now(), life) end
return 1
