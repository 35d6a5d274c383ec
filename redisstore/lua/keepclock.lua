-- Writes the time down. KEYS: meta. ARGV: clock.
local now, wall = clock(KEYS[1], ARGV[1])
redis.call('HSET', KEYS[1], 'now', now, 'wall', wall)
return now
