-- Store records and tell who listens, but never over a SUCCESS.
--
-- KEYS: none, then a key a record; the channel has the key's name.
-- ARGV: three a record: the record, its life in milliseconds ("" for ever), and the SHA-1 of a value that the client has
--       decoded and found to be no SUCCESS ("" if it has not).
-- Reply: a number a record: 1 stored; 0 there is a SUCCESS; 2 what is there can't be read here: the client must look.

redis.call('DEL', KEYS[1]) -- on a full server what has been worked out is stored all the same

-- A record in JSON begins with its status, whoever wrote it. Compressed ones, other serialisers' and another order of
-- keys can't be told from here.
local function succeeded(key, seen)
  local head = redis.call('GETRANGE', key, 0, 63)
  if head == '' then return 0 end
  local status = string.match(head, '^{"status": ?"([A-Z_]+)"')
  if status then return status == 'SUCCESS' and 1 or 0 end
  if seen ~= '' and redis.sha1hex(redis.call('GET', key)) == seen then return 0 end
  return 2
end

local function put(key, record, life, ...)
  if life == '' then return redis.call('SET', key, record, ...) end
  return redis.call('SET', key, record, 'PX', life, ...)
end

local reply = {}
for number = 1, #KEYS - 1 do
  local key, record, life, seen = KEYS[number + 1], unpack(ARGV, 3 * number - 2, 3 * number)
  local found = 0
  if not put(key, record, life, 'NX') then -- mostly there is nothing yet, and one call finds out and stores
    found = succeeded(key, seen)
    if found == 0 then put(key, record, life) end
  end
  if found == 0 then
    redis.call('PUBLISH', key, record)
    reply[number] = 1
  else
    reply[number] = found == 1 and 0 or 2
  end
end
return reply
