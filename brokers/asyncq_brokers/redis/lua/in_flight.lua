-- Count the recorded deliveries of a queue, whoever holds them, without sending their messages.
--
-- KEYS: unacked, unreadable. ARGV: endings of a record of the queue, as asyncq and as Celery write them.
local count = 0
for _, key in ipairs(KEYS) do
  for _, record in ipairs(redis.call('HVALS', key)) do
    for _, ending in ipairs(ARGV) do
      if string.sub(record, -#ending) == ending then
        count = count + 1
        break
      end
    end
  end
end
return count
