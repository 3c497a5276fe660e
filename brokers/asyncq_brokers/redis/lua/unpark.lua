-- Release or drop parked messages by id.
--
-- KEYS: none, the sorted set, the hash.
-- ARGV: "L" (push behind the others), "P" (park until `until`) or "D" (drop); until; the queue's list; for each priority
--       0 … 9 what it adds to the list's name; then ids.
-- Reply: how many were there.
redis.call('DEL', KEYS[1])
local count = 0
for position = 14, #ARGV do
  local id = ARGV[position]
  local stored = redis.call('HGET', KEYS[3], id)
  if stored then
    count = count + 1
    if ARGV[1] == 'P' then
      redis.call('ZADD', KEYS[2], 'XX', ARGV[2], id)
    else
      if ARGV[1] == 'L' then
        redis.call('LPUSH', ARGV[3] .. ARGV[4 + tonumber(string.sub(stored, 1, 1))], string.sub(stored, 2))
      end
      redis.call('ZREM', KEYS[2], id)
      redis.call('HDEL', KEYS[3], id)
    end
  end
end
return count
