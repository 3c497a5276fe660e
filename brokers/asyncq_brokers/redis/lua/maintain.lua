-- Bring back what is due, and tell which leases have ended.
--
-- KEYS: none, leases, parked_queues.
-- ARGV: most of each kind, prefix of a queue's list, of its sorted set and of its hash of parked messages, then for
--       each priority 0 … 9 what it adds to the name of the list.
-- Reply: {number of messages moved, {tags of ended leases}, seconds until a message is due or a lease ends (text; ""
--        if there is none)}

redis.call('DEL', KEYS[1])

local most = tonumber(ARGV[1])
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local moved, nearest = 0, nil

local function consider(first)
  if first[2] and not (nearest and nearest < tonumber(first[2])) then nearest = tonumber(first[2]) end
end

for _, queue in ipairs(redis.call('SMEMBERS', KEYS[3])) do
  local parked, messages = ARGV[3] .. queue, ARGV[4] .. queue
  for _, id in ipairs(redis.call('ZRANGE', parked, '-inf', now, 'BYSCORE', 'LIMIT', 0, most)) do
    local stored = redis.call('HGET', messages, id)
    if stored then
      local list = ARGV[2] .. queue .. ARGV[5 + tonumber(string.sub(stored, 1, 1))]
      -- A list of the wrong type keeps its messages parked, and the other queues going.
      local pushed = redis.pcall('LPUSH', list, string.sub(stored, 2))
      if type(pushed) == 'table' and pushed.err then break end
      moved = moved + 1
    end
    redis.call('ZREM', parked, id)
    redis.call('HDEL', messages, id)
  end
  local first = redis.call('ZRANGE', parked, 0, 0, 'WITHSCORES')
  if #first == 0 then redis.call('SREM', KEYS[3], queue) end
  consider(first)
end

-- The youngest first: each goes to the front of its list, so that the oldest is served first.
local ended = redis.call('ZRANGE', KEYS[2], now, '-inf', 'BYSCORE', 'REV', 'LIMIT', 0, most)
if #ended == 0 then consider(redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')) end
return {moved, ended, nearest and string.format('%.6f', math.max(nearest - now, 0)) or ''}
