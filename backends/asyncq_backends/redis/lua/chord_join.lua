-- Hand in parts of one chord; claim it if it is complete.
--
-- KEYS: none, parts (.j), growth (.t), size (.s), those counted (.d), saved header, claim (.c), body, chords to look at.
-- ARGV: group id, "1" to keep the order, life in milliseconds ("" for ever), life of a claim in milliseconds, token,
--       milliseconds until an incomplete chord is looked at, body, then three a part: its name, its place, its member.
-- Reply: nil, or what was saved ("" for nothing) when the claim was taken.

redis.call('DEL', KEYS[1]) -- on a full server what has been worked out is counted all the same

local _, parts, growth, size, counted, saved, claim, body, chords = unpack(KEYS)
local group, ordered, life, lease, token, pause, document = unpack(ARGV, 1, 7)
if redis.call('GET', claim) == 'done' then return false end

for position = 8, #ARGV, 3 do
  local name, place, member = unpack(ARGV, position, position + 2)
  if redis.call('SISMEMBER', counted, name) == 0 then
    if ordered == '1' then
      redis.call('ZADD', parts, place, member)
    else
      redis.call('RPUSH', parts, member)
    end
    redis.call('SADD', counted, name)
  end
end
redis.call('SET', body, document, 'NX')
if life ~= '' then
  for _, key in ipairs({parts, growth, size, counted, saved, body}) do
    redis.call('PEXPIRE', key, life)
  end
end

local expected, claimed, again = redis.call('GET', size), false, pause
if expected and count(parts) >= expected + (redis.call('GET', growth) or 0) then
  -- The token's owner may have asked before, and not have heard the answer.
  claimed = redis.call('SET', claim, token, 'NX', 'PX', lease) or redis.call('GET', claim) == token
  again = redis.call('PTTL', claim)
end
look_again(chords, group, now() + again, life)
return claimed and (redis.call('GET', saved) or '')
