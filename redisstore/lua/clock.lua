-- Part of every script that asks for the time.

-- clock returns the partition's time in milliseconds, the server's own (moved by
-- arg), and the server's own in microseconds as it is; then the partition's time that was
-- last written down. arg is a number of milliseconds to add, or '=' and the time itself.
--
-- The partition's time does not run backwards. The clock record has the time that was
-- last written down and the server's time of then. As long as the server's clock is
-- behind, as after a step back or a failover, time passes at 95 % until both meet.
-- Readers do the same sum: clock.go.
local function clock(key, arg)
  local t = redis.call('TIME')
  local us = tonumber(t[1]) * 1000000 + tonumber(t[2])
  local wall
  if string.sub(arg, 1, 1) == '=' then
    wall = tonumber(string.sub(arg, 2))
  else
    wall = math.floor(us / 1000) + tonumber(arg)
  end
  local kept = redis.call('GET', key)
  if not kept then
    return wall, wall, us, 0
  end
  local last, at = struct.unpack('>i8i8', kept)
  local slow = last + math.floor(math.max(0, wall - at) * 95 / 100)
  return math.max(wall, slow), wall, us, last
end

-- keep writes down what clock returned. Whatever changes a record more than a touch does
-- keeps the time, so that readers can tell when nothing has changed since.
local function keep(key, now, wall, us)
  redis.call('SET', key, struct.pack('>i8i8i8', now, wall, us))
end
