-- Expect more parts of a chord, once by each name.
--
-- KEYS: none, growth (.t), claim (.c), those counted (.d). ARGV: how many, life in milliseconds ("" for ever), name.

redis.call('DEL', KEYS[1])

local _, growth, claim, counted = unpack(KEYS)
local by, life, name = unpack(ARGV)
if redis.call('GET', claim) == 'done' then return 0 end
-- Among the parts that were counted, whose names are "<task id>:<index>": a set that Celery only looks parts up in.
if redis.call('SADD', counted, '+' .. name) == 0 then return 0 end
redis.call('INCRBY', growth, by)
if life ~= '' then
  for _, key in ipairs({growth, counted}) do redis.call('PEXPIRE', key, life) end
end
return 1
