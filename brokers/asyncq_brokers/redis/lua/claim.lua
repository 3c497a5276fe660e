-- Take up to a number of messages and record them, in one step.
--
-- KEYS: none, leases, unacked, unacked_index, unreadable, then the lists in serving order: all queues at the first
--       priority step, all queues at the second, …
-- ARGV: limit, lease in seconds, prefix of the tags, first number, bytes at most, "1" to share a step among the queues
--       (else they are served in order), then the queues' names as JSON strings, in the order of the lists.
-- Reply: list number (1, 2, …; negative for what stands in `unreadable`), message, list number, message, …
--        The n-th message's tag is the prefix and, in ten digits, the first number + n - 1.

-- A first write that needs no memory turns the server's memory check off for the rest of the script (EVAL's
-- documentation, "Eval scripts under low memory conditions"). Celery's consumers fail at this point on a full server.
redis.call('DEL', KEYS[1])

local leases, unacked, index, unreadable = KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local limit, lease, prefix, first = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local room, fair, width = tonumber(ARGV[5]), ARGV[6] == '1', #ARGV - 6
local CHUNK = 25

local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local ends_at = string.format('%.6f', now + lease)

local reply, taken = {}, 0
local records, scores, ends, oddities = {}, {}, {}, {}

-- How many messages each list of a step gives: everybody the same, and what one doesn't need goes to the others.
local function shares(lengths, wanted)
  local given = {}
  for i = 1, width do given[i] = 0 end
  repeat
    local open = 0
    for i = 1, width do if lengths[i] > given[i] then open = open + 1 end end
    local quota = fair and math.ceil(wanted / math.max(open, 1)) or wanted
    for i = 1, width do
      local more = math.min(lengths[i] - given[i], quota, wanted)
      given[i] = given[i] + more
      wanted = wanted - more
    end
  until wanted == 0 or open == 0
  return given
end

local function record(number, raw)
  local tag = string.format('%s%010d', prefix, first + taken)
  local value = '[' .. raw .. ',"",' .. ARGV[7 + (number - 1) % width] .. ']'
  taken = taken + 1
  room = room - #raw
  ends[2 * taken - 1] = ends_at
  ends[2 * taken] = tag
  -- The shape alone is looked at: to parse each message would cost the server more than all the rest. The client
  -- parses it, and moves what is no JSON at once.
  if string.byte(raw, 1) == 123 and string.byte(raw, 2) == 34 and string.byte(raw, -1) == 125 then -- {" … }
    records[#records + 1] = tag
    records[#records + 1] = value
    -- Equal scores would come back in the order of their tags' bytes: a microsecond keeps them apart.
    scores[#scores + 1] = string.format('%.6f', now + taken * 0.000001)
    scores[#scores + 1] = tag
  else
    oddities[#oddities + 1] = tag
    oddities[#oddities + 1] = value
    number = -number
  end
  reply[2 * taken - 1] = number
  reply[2 * taken] = raw
end

-- Read from the tail without removing anything: an error in what follows must leave every message in its list.
local function read(number, key, share)
  local seen = 0
  while seen < share and (room > 0 or taken == 0) do
    local got = redis.call('LRANGE', key, -math.min(seen + CHUNK, share), -seen - 1)
    if #got == 0 then break end
    for i = #got, 1, -1 do
      if room <= 0 and taken > 0 then break end
      record(number, got[i])
      seen = seen + 1
    end
  end
  return seen
end

local trims = {}
for offset = 5, #KEYS - 1, width do
  if taken == limit or (room <= 0 and taken > 0) then break end
  local lengths, total = {}, 0
  for i = 1, width do
    lengths[i] = redis.call('LLEN', KEYS[offset + i])
    total = total + lengths[i]
  end
  if total > 0 then
    local given = shares(lengths, limit - taken)
    for i = 1, width do
      local seen = given[i] > 0 and read(offset - 5 + i, KEYS[offset + i], given[i]) or 0
      if seen > 0 then trims[#trims + 1] = {KEYS[offset + i], -seen - 1} end
    end
  end
end

if taken > 0 then
  redis.call('ZADD', leases, unpack(ends))
  if #records > 0 then
    redis.call('HSET', unacked, unpack(records))
    redis.call('ZADD', index, unpack(scores))
  end
  if #oddities > 0 then redis.call('HSET', unreadable, unpack(oddities)) end
  for _, trim in ipairs(trims) do redis.call('LTRIM', trim[1], 0, trim[2]) end
end
return reply
