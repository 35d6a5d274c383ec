-- KEYS: head, body, meta. ARGV: clock.
-- Returns the time, and the head and the body if there is a record.
local now = clock(KEYS[3], ARGV[1])
local h = head(KEYS[1])
if not h[1] then
  return {now}
end
return {now, h, redis.call('GET', KEYS[2])}
