-- KEYS: head, body, meta. ARGV: clock, incarnation or nothing, time or nothing.
-- Moves the last activity of a live session, never backwards and not past the present.
-- Returns the same as get.
local now, wall, _, kept = clock(KEYS[3], ARGV[1])
local h = head(KEYS[1])
if not h[1] or ARGV[2] ~= '' and ARGV[2] ~= h[1] then
  return {now}
end
local active = tonumber(h[5])
if not h[8] and now < deadline(active, tonumber(h[6]), tonumber(h[7])) then
  local at = now
  if ARGV[3] ~= '' then
    at = math.min(now, tonumber(ARGV[3]))
  end
  if at > active then
    redis.call('HSET', KEYS[1], 'a', at)
    h[5] = string.format('%d', at)
    if now - kept >= 500 then
      redis.call('HSET', KEYS[3], 'now', now, 'wall', wall)
    end
  end
end
return {now, h, redis.call('GET', KEYS[2])}
