-- Take a lock, if it is nobody's. KEYS: none, the lock. ARGV: token, milliseconds.
redis.call('DEL', KEYS[1]) -- a full server's messages need their rescue too
return redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) and 1 or 0
