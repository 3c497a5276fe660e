-- Expect more parts of a chord.
--
-- KEYS: none, growth (.t), claim (.c). ARGV: how many, life in milliseconds ("" for ever).

redis.call('DEL', KEYS[1])

if redis.call('GET', KEYS[3]) == 'done' then return 0 end
redis.call('INCRBY', KEYS[2], ARGV[1])
if ARGV[2] ~= '' then redis.call('PEXPIRE', KEYS[2], ARGV[2]) end
return 1
