-- Claim chords that are complete, and that nobody has a claim on.
--
-- KEYS: none, chords to look at.
-- ARGV: prefix of Celery's keys, prefix of bodies, the most to claim, life of a claim in milliseconds, token (a number is
--       put behind it), milliseconds until an incomplete chord is looked at again, the most to look at.
-- Reply: {how many were looked at, group id, token, body, saved header ("" for none), group id, …}

redis.call('DEL', KEYS[1])

local chords = KEYS[2]
local prefix, bodies, most, lease, token, pause, looks = unpack(ARGV)
local moment = now()
local due = redis.call('ZRANGE', chords, '-inf', moment, 'BYSCORE', 'LIMIT', 0, looks)
local reply = {0}
for number, group in ipairs(due) do
  if #reply > 4 * most then break end
  reply[1] = number
  local key = prefix .. group
  local claim, expected = redis.call('GET', key .. '.c'), redis.call('GET', key .. '.s')
  local body = redis.call('GET', bodies .. group)
  if claim == 'done' or not body then
    redis.call('ZREM', chords, group)
    redis.call('UNLINK', bodies .. group)
  elseif claim then
    redis.call('ZADD', chords, moment + redis.call('PTTL', key .. '.c'), group)
  elseif expected and count(key .. '.j') >= expected + (redis.call('GET', key .. '.t') or 0) then
    local own = token .. '.' .. number
    redis.call('SET', key .. '.c', own, 'PX', lease)
    redis.call('ZADD', chords, moment + lease, group)
    for _, value in ipairs({group, own, body, redis.call('GET', key) or ''}) do
      reply[#reply + 1] = value
    end
  else
    redis.call('ZADD', chords, moment + pause, group)
  end
end
return reply
