-- What the sweeper has to do. KEYS: clock, meta, due, over, events. ARGV: 1 clock, 2 limit, 3 retention.
-- Returns 1 the time, 2 and 3 the first members and the number of what is due, 4 and 5
-- of what retention has released, 6 number of the last event, 7 of the last one that was
-- trimmed, 8 time of the oldest one kept or nothing, 9 the server's own time.
local now, wall = clock(KEYS[1], ARGV[1])
local released = now - tonumber(ARGV[3])
local meta = redis.call('HMGET', KEYS[2], 'n', 'f')
local oldest = redis.call('XRANGE', KEYS[5], '-', '+', 'COUNT', 1)
return {
  now,
  redis.call('ZRANGE', KEYS[3], '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[2], 'WITHSCORES'),
  redis.call('ZCOUNT', KEYS[3], '-inf', now),
  redis.call('ZRANGE', KEYS[4], '-inf', released, 'BYSCORE', 'LIMIT', 0, ARGV[2], 'WITHSCORES'),
  redis.call('ZCOUNT', KEYS[4], '-inf', released),
  tonumber(meta[1] or 0),
  tonumber(meta[2] or 0),
  oldest[1] and tonumber(oldest[1][2][2]) or false,
  wall,
}
