-- Part of every script that asks for the time.

-- clock returns the partition's time in milliseconds, the server's own (moved by
-- arg), and the server's own in microseconds as it is. arg is a number of milliseconds to
-- add, or '=' and the time itself.
--
-- The partition's time does not run backwards. The meta record has the time that was
-- last written down and the server's time of then. As long as the server's clock is
-- behind, as after a step back or a failover, time passes at 95 % until both meet.
local function clock(meta, arg)
  local t = redis.call('TIME')
  local us = tonumber(t[1]) * 1000000 + tonumber(t[2])
  local wall
  if string.sub(arg, 1, 1) == '=' then
    wall = tonumber(string.sub(arg, 2))
  else
    wall = math.floor(us / 1000) + tonumber(arg)
  end
  local now = wall
  local kept = redis.call('HMGET', meta, 'now', 'wall')
  if kept[1] and kept[2] then
    local slow = tonumber(kept[1]) + math.floor(math.max(0, wall - tonumber(kept[2])) * 0.95)
    now = math.max(now, slow)
  end
  return now, wall, us, tonumber(kept[1] or 0)
end
